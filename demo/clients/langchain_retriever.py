"""LangChain: a retriever over a collection, and its stuff-documents chain as it is, which is blended."""

import os

import httpx
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.callbacks import CallbackManagerForRetrieverRun, get_usage_metadata_callback
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_openai import ChatOpenAI

URL = os.environ.get("KVBLEND_URL", "http://localhost:8000")
KEY = os.environ.get("KVBLEND_API_KEY", "none")
COLLECTION = os.environ.get("KVBLEND_COLLECTION", "docs")
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}
QUESTIONS = ("What is an attention sink?", "What does CacheBlend recompute?")


class KvblendRetriever(BaseRetriever):
    """The chunks of a collection that suit a query, the best one last: next to the question."""

    collection: str
    top_k: int = 6

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        answer = httpx.post(
            f"{URL}/v1/collections/{self.collection}/search",
            headers=AUTHORIZATION,
            json={"query": query, "top_k": self.top_k, "order": "best_last"},
            timeout=60,
        )
        answer.raise_for_status()
        return [
            Document(
                page_content=hit["text"], metadata={key: hit[key] for key in ("source", "title", "tokens")}
            )
            for hit in answer.json()["data"]
        ]


models = httpx.get(f"{URL}/v1/models", headers=AUTHORIZATION).raise_for_status().json()
llm = ChatOpenAI(
    model=models["data"][0]["id"],
    base_url=f"{URL}/v1",
    api_key=KEY,
    temperature=0,
    max_tokens=32,
    stream_usage=True,
)
prompt = ChatPromptTemplate.from_messages(
    [("system", "Answer from these pages.\n\n{context}"), ("human", "{input}")]
)
chain = create_stuff_documents_chain(llm, prompt)
retriever = KvblendRetriever(collection=COLLECTION)

for number, question in enumerate(QUESTIONS):
    documents = retriever.invoke(question)
    with get_usage_metadata_callback() as usage:
        if number == 0:
            print(chain.invoke({"context": documents, "input": question}))
        else:
            for piece in chain.stream({"context": documents, "input": question}):
                print(piece, end="", flush=True)
            print()
    # kvblend's blended tokens, where LangChain puts every service's cached ones.
    [told] = usage.usage_metadata.values()
    cached = told["input_token_details"]["cache_read"]
    print(f"not computed: {cached} of {sum(one.metadata['tokens'] for one in documents)} tokens of documents")

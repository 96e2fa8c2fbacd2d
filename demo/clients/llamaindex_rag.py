"""LlamaIndex: `OpenAILike` as the model, and a retriever over a collection, in a query engine as it is."""

import os

import httpx
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.llms.openai_like import OpenAILike

URL = os.environ.get("KVBLEND_URL", "http://localhost:8000")
KEY = os.environ.get("KVBLEND_API_KEY", "none")
COLLECTION = os.environ.get("KVBLEND_COLLECTION", "docs")
AUTHORIZATION = {"Authorization": f"Bearer {KEY}"}


class KvblendRetriever(BaseRetriever):
    """The chunks of a collection that suit a query, the best one last: next to the question."""

    def __init__(self, collection: str, top_k: int = 6) -> None:
        super().__init__()
        self._path = f"{URL}/v1/collections/{collection}/search"
        self._search = {"top_k": top_k, "order": "best_last"}

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        body = {"query": query_bundle.query_str, **self._search}
        answer = httpx.post(self._path, headers=AUTHORIZATION, json=body, timeout=60)
        answer.raise_for_status()
        return [
            NodeWithScore(
                # Metadata stays out of the prompt: a chunk is found there by its own text.
                node=TextNode(
                    id_=hit["chunk_id"],
                    text=hit["text"],
                    metadata={"source": hit["source"], "tokens": hit["tokens"]},
                    excluded_llm_metadata_keys=["source", "tokens"],
                ),
                score=hit["score"],
            )
            for hit in answer.json()["data"]
        ]


[model] = httpx.get(f"{URL}/v1/models", headers=AUTHORIZATION).raise_for_status().json()["data"]
llm = OpenAILike(
    model=model["id"],
    api_base=f"{URL}/v1",
    api_key=KEY,
    is_chat_model=True,
    context_window=model["max_model_len"],
    max_tokens=32,
    temperature=0,
)
retriever = KvblendRetriever(COLLECTION)

answer = RetrieverQueryEngine.from_args(retriever, llm=llm).query("What is an attention sink?")
print(answer)
print("sources:", *dict.fromkeys(node.metadata["source"] for node in answer.source_nodes))
print("tokens of documents:", sum(node.metadata["tokens"] for node in answer.source_nodes))

engine = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True)
streamed = engine.query("What does CacheBlend recompute?")
streamed.print_response_stream()
print("\ntokens of documents:", sum(node.metadata["tokens"] for node in streamed.source_nodes))

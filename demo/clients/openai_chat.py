"""The `openai` client: a chat answered from a collection, streamed, and one with texts in its prompt."""

import os

from openai import OpenAI

URL = os.environ.get("KVBLEND_URL", "http://localhost:8000")
KEY = os.environ.get("KVBLEND_API_KEY", "none")
COLLECTION = os.environ.get("KVBLEND_COLLECTION", "docs")
QUESTION = "What is an attention sink?"

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
model = client.models.list().data[0].id

# One field more than usual: the server searches the collection and blends what it finds.
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": QUESTION}],
    max_tokens=48,
    temperature=0,
    extra_body={"rag": {"collection": COLLECTION, "top_k": 4}},
)
print(answer.choices[0].message.content)
sources = [chunk["source"] for chunk in answer.blend["chunks"]]  # the collection's prefix has none
print("sources:", *dict.fromkeys(filter(None, sources)))
print("reused tokens:", answer.blend["reused_tokens"])

# The same as a stream. The last events carry the blend, and the usage where it is asked for.
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": QUESTION}],
    max_tokens=48,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"rag": {"collection": COLLECTION, "top_k": 4}},
)
for event in stream:
    for choice in event.choices:
        print(choice.delta.content or "", end="", flush=True)
    if event.usage:
        print(f"\ncontext tokens not computed: {event.usage.prompt_tokens_details.cached_tokens}")

# Nothing but a chat: known texts are found wherever they stand in a prompt.
page = client.get(f"{URL}/v1/collections/{COLLECTION}/chunks?limit=4", cast_to=object)
texts = [chunk["text"] for chunk in page["data"]]
answer = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "\n\n".join([*texts, "What are these pages about?"])}],
    max_tokens=48,
    temperature=0,
)
print(answer.choices[0].message.content)
print("known chunks:", len(answer.blend["chunks"]))

"""The `openai` client: files uploaded, put into a vector store, and searched by `file_search`."""

import os

from openai import OpenAI

URL = os.environ.get("KVBLEND_URL", "http://localhost:8000")
KEY = os.environ.get("KVBLEND_API_KEY", "none")

PAGE = b"""# The lighthouse of Ostrava

The lighthouse of Ostrava is forty-one metres high and was painted green in 1987, when the last keeper,
Alma Novotna, retired. Its lamp is lit on the first night of every month, for the trams.
"""

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
model = client.models.list().data[0].id

file = client.files.create(file=("lighthouse.md", PAGE), purpose="user_data")
store = client.vector_stores.create(name="lighthouses")
try:
    added = client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id)
    print("status:", added.status)

    found = client.vector_stores.search(store.id, query="How high is the lighthouse?")
    print("found:", found.data[0].filename)

    answer = client.responses.create(
        model=model,
        input="How high is the lighthouse of Ostrava?",
        max_output_tokens=48,
        temperature=0,
        tools=[{"type": "file_search", "vector_store_ids": [store.id]}],
    )
    print(answer.output_text)
    for item in answer.output:
        if item.type == "message":
            for part in item.content:
                print("cited:", *dict.fromkeys(one.filename for one in part.annotations))
finally:
    client.vector_stores.delete(store.id)
    client.files.delete(file.id)

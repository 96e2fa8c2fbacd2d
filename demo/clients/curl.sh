#!/bin/sh
# What kvblend adds to vLLM's routes, by hand: what is there, a search, and a streamed answer with its figures.
set -eu
url=${KVBLEND_URL:-http://localhost:8000}
collection=${KVBLEND_COLLECTION:-docs}

ask() {
    curl --silent --show-error --fail-with-body --no-buffer \
        --header "Authorization: Bearer ${KVBLEND_API_KEY:-none}" --header 'Content-Type: application/json' "$@"
    echo
}

ask "$url/v1/collections"

ask "$url/v1/collections/$collection/search" --data '{"query": "What is an attention sink?", "top_k": 2}'

# "model" may be left out: the server has one.
ask "$url/v1/chat/completions" --data '{
    "messages": [{"role": "user", "content": "What is an attention sink?"}],
    "max_tokens": 32,
    "temperature": 0,
    "stream": true,
    "rag": {"collection": "'"$collection"'", "top_k": 4}}'

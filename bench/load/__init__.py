"""A server under load: requests over HTTP on a schedule, and uploads beside chats."""

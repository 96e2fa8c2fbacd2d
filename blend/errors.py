"""What can go wrong through the caller's or the data's fault.

BlendError
├── RequestError        a request asks for what cannot be done (bad ratio, empty question)
├── ConfigError         a setting is unknown or makes no sense
├── ModelError          a model cannot be found, read or served
│   └── NotBlendable    the model runs, but its KV cannot be blended; the reason is the message
├── StoreError          chunk KV cannot be stored or read
│   ├── CorruptChunk    a stored chunk failed its checks; it is dropped and computed again
│   └── StoreFull       no space left; nothing that was stored is lost
└── EngineNotReady      the engine is starting, stopping or dead

Every message says what was got, what was expected and what to do. `assert` is for our own bugs.
"""


class BlendError(Exception):
    """Root of all errors that kvblend raises on purpose."""


class RequestError(BlendError):
    """A request asks for what cannot be done."""


class ConfigError(BlendError):
    """A setting is unknown or makes no sense."""


class ModelError(BlendError):
    """A model cannot be found, read or served."""


class NotBlendable(ModelError):
    """The model runs, but its KV cannot be blended; the message is the reason."""


class StoreError(BlendError):
    """Chunk KV cannot be stored or read."""


class CorruptChunk(StoreError):
    """A stored chunk failed its checks."""


class StoreFull(StoreError):
    """No space left where chunk KV is stored."""


class EngineNotReady(BlendError):
    """The engine is starting, stopping or dead."""

"""TLS of the server's socket, from vLLM's `--ssl-*` flags."""

import ssl
from argparse import Namespace

from uvicorn.config import SSL_PROTOCOL_VERSION, create_ssl_context

from blend.errors import ConfigError


def tls_of(args: Namespace) -> ssl.SSLContext | None:
    """The TLS context of the server, made before its engine starts; None for plain HTTP.

    Raises:
        ConfigError: a certificate or key is unusable.
    """
    if not (args.ssl_certfile or args.ssl_keyfile):
        return None
    if not args.ssl_certfile:
        raise ConfigError("--ssl-keyfile: got a key without a certificate; give --ssl-certfile too")
    try:
        return create_ssl_context(
            certfile=args.ssl_certfile,
            keyfile=args.ssl_keyfile,
            password=None,
            ssl_version=SSL_PROTOCOL_VERSION,
            cert_reqs=args.ssl_cert_reqs,
            ca_certs=args.ssl_ca_certs,
            ciphers=args.ssl_ciphers,
        )
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(str(one) for one in (args.ssl_certfile, args.ssl_keyfile, args.ssl_ca_certs) if one)
        raise ConfigError(
            f"TLS cannot be set up from {files}: {error}; expected matching PEM files"
        ) from None

"""What the URLs of brokers say of certificates: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, all paths."""

import ssl
from collections.abc import Mapping

from freshet.errors import ConfigError

OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def context(options: Mapping[str, str], broker: str) -> ssl.SSLContext:
    """How to reach a broker over TLS: its certificate is checked. Raises ConfigError when a file cannot be read."""
    try:
        made = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            made.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError("engine", f"the certificates for {broker} cannot be read: {reason}") from None
    return made

"""`freshet cert`: a certificate for this machine, and the authority to trust for it, whose key is thrown away."""

import ipaddress
import platform
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from freshet.cli.console import fail
from freshet.cli.terminal import out

CERTIFICATE, KEY, AUTHORITY = "cert.pem", "key.pem", "ca.pem"
HOST_NAME = re.compile(r"(\*\.)?[a-zA-Z0-9_-]+(\.[a-zA-Z0-9_-]+)*")
HERE = ("localhost", "127.0.0.1", "::1")
SKEW = timedelta(hours=1)  # of the clocks of those who look at it


def cert(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Host names and addresses beside those of localhost."),
    ] = None,
    folder: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where to write.")] = Path(),
    days: Annotated[int, typer.Option(min=1, max=825, help="For how long it is valid.")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace the files that are there.")] = False,
) -> None:
    """Make a certificate for localhost, and an authority that a browser can trust.

    It is for your own machine and network; a server in public has its certificate from a public authority. The
    authority signs this one certificate: its key is kept nowhere, so that nobody can sign another with it.

    [bold]Examples[/bold]

      freshet cert
      freshet serve --tls-cert cert.pem --tls-key key.pem
      freshet cert laptop.local 192.168.0.7 --folder tls --force
    """
    allowed = [_general_name(name) for name in dict.fromkeys((*HERE, *(names or [])))]
    taken = [name for name in (CERTIFICATE, KEY, AUTHORITY) if (folder / name).exists()]
    if taken and not force:
        fail(f"{folder / taken[0]} is there already; nothing was written.", "Replace it with --force.", 1)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _authority(authority_key, days)
    leaf = _leaf(key, authority, authority_key, allowed, days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / KEY, _private(key), 0o600)
        _write(folder / CERTIFICATE, leaf.public_bytes(serialization.Encoding.PEM), 0o644)
        _write(folder / AUTHORITY, authority.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", "Choose another folder: --folder", 1)
    _say_what_is_next(folder, leaf)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if HOST_NAME.fullmatch(name) is None:
        raise typer.BadParameter(f"{name!r}: expected a host name in ASCII, or an address", param_hint="NAME")
    return x509.DNSName(name)


def _begin(subject: str, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _authority(key: ec.EllipticCurvePrivateKey, days: int) -> x509.Certificate:
    name = f"Freshet on {platform.node()}"[:64]  # RFC 5280, ub-common-name
    return (
        _begin(name, days)
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    names: list[x509.GeneralName],
    days: int,
) -> x509.Certificate:
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _begin("localhost", days)
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """In one step, so that a server that watches the file never reads half of it; nobody else ever reads the key."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.touch(mode, exist_ok=False)
    beside.write_bytes(content)
    beside.replace(path)


def _say_what_is_next(folder: Path, leaf: x509.Certificate) -> None:
    certificate, key, authority = folder / CERTIFICATE, folder / KEY, folder / AUTHORITY
    out.print(
        f"Wrote {certificate}, {key} (yours alone) and {authority}; valid until {leaf.not_valid_after_utc:%d %B %Y}."
    )
    lines = [
        "",
        f"  freshet serve --tls-cert {certificate} --tls-key {key}",
        "",
        f"Clients have to trust {authority}:",
        "",
        f"  Python, freshet publish, tail   SSL_CERT_FILE={authority}",
        f"  Node                            NODE_EXTRA_CA_CERTS={authority}",
        f"  curl                            curl --cacert {authority} https://localhost:8000/health/live",
        f"  Chromium, Chrome on Linux       certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n freshet -i {authority}",
        "  Firefox                         Settings, Certificates, Authorities, Import",
        f"  macOS                           security add-trusted-cert -r trustRoot {authority}",
        f"  Windows                         certutil -user -addstore Root {authority}",
    ]
    out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

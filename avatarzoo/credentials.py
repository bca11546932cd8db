"""Content credentials (C2PA): every video and picture an avatar makes says that a trained algorithm made it.

The manifest holds one action, ``c2pa.created`` with IPTC's digital source type ``trainedAlgorithmicMedia``, and what it was made
of. It is signed with a key of this computer that is made on first use; nobody vouches for that key, so a valid signature shows
that a file was not changed, not who made it. Source: C2PA technical specification 2.x, sections on claims and on X.509 profiles.
"""

from __future__ import annotations

import datetime
import io
import json
import os
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from avatarzoo.errors import BadVideoError, CredentialsError
from avatarzoo.files import atomic_path, user_folder

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
FACTS = "org.avatarzoo.made_of"
"""Label of our own assertion: method, checkpoint and so on."""
KINDS = {".mp4": "video/mp4", ".mov": "video/quicktime", ".png": "image/png", ".jpg": "image/jpeg"}
OPTION = "--no-credentials"
OPTION_HELP = (
    "write no content credentials (C2PA) into the file; the result file says that they were left out"
)
YEARS = 10
"""A key of this computer is good for so long."""


class Credentials:
    """Signs files as made by an avatar.

    Args:
        facts: what the file was made of, plain values; goes into the file for everyone to read.

    Raises:
        CredentialsError: the C2PA library does not work here, or the key cannot be written. Said before work begins, not after.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts, self.library, self.key = facts, library(), signing_key()

    def embed(self, path: Path, title: str | None = None) -> None:
        """Sign ``path`` in place.

        Args:
            title: the file's name, where ``path`` is a temporary one.

        Raises:
            CredentialsError: a kind of file without credentials. OutputError: it cannot be written.
        """
        with atomic_path(path) as signed, path.open("rb") as source, signed.open("w+b") as target:
            self._sign(kind_of(path), title or path.name, source, target)

    def embedded(self, data: bytes, title: str) -> bytes:
        """The same for a file in memory; ``title`` is its name."""
        target = io.BytesIO()
        self._sign(kind_of(Path(title)), title, io.BytesIO(data), target)
        return target.getvalue()

    def _sign(self, kind: str, title: str, source: Any, target: Any) -> None:
        c2pa = self.library
        try:
            info = c2pa.C2paSignerInfo("es256", self.key.certificates, self.key.private, None)
            with c2pa.Signer.from_info(info) as signer, c2pa.Builder(self._manifest(title)) as builder:
                builder.sign(signer, kind, source, target)
        except c2pa.C2paError as error:
            raise CredentialsError(
                f"{title} could not be given content credentials ({error}); {OPTION} writes it without."
            ) from error

    def _manifest(self, title: str) -> str:
        software = {"name": "avatarzoo", "version": version("avatarzoo")}
        created = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": software}
        assertions = [
            {"label": "c2pa.actions", "data": {"actions": [created]}},
            {"label": FACTS, "data": self.facts},
        ]
        return json.dumps({"claim_generator_info": [software], "title": title, "assertions": assertions})


def recorded(credentials: Credentials | None) -> dict[str, Any]:
    """For result files: whether what was written carries credentials, and if not, by whose wish."""
    if credentials is None:
        return {"written": False, "because": f"left out by an option ({OPTION})"}
    return {"written": True, "standard": "C2PA", "source_type": SOURCE_TYPE, "made_of": credentials.facts}


class Findings(NamedTuple):
    """What the credentials of a file say.

    Attributes:
        state: ``trusted`` (valid, by a signer on a trust list), ``valid``, ``invalid`` (changed after signing) or ``none``.
        generated: whether it says that a trained algorithm made it. software, signer, title: names. facts: of :data:`FACTS`.
        problems: what did not match.
    """

    state: str
    generated: bool = False
    software: str = ""
    signer: str = ""
    title: str = ""
    facts: Mapping[str, Any] = MappingProxyType({})
    problems: tuple[str, ...] = ()


def read_credentials(path: Path) -> Findings:
    """Validate the credentials inside a file, with the C2PA library and without the network.

    Raises:
        BadVideoError: no such file, or a kind of file that holds none. CredentialsError: the library does not work here.
    """
    c2pa = library()
    kind = kind_of(path)
    if not path.is_file():
        raise BadVideoError(f"There is no file {path}; verify takes a video or a picture.")
    offline = c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    try:
        with path.open("rb") as file, c2pa.Reader(kind, file, context=c2pa.Context(offline)) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return Findings("none")
    except c2pa.C2paError as error:
        return Findings("invalid", problems=(str(error),))
    return _findings(store)


def _findings(store: dict[str, Any]) -> Findings:
    manifest = store["manifests"][store["active_manifest"]]
    said = {a["label"].partition(".v2")[0]: a["data"] for a in manifest.get("assertions", [])}
    actions = said.get("c2pa.actions", {}).get("actions", [])
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    makers = manifest.get("claim_generator_info") or [{}]
    signature = manifest.get("signature_info") or {}
    return Findings(
        state=store.get("validation_state", "Invalid").lower(),
        generated=any(
            str(a.get("digitalSourceType", "")).endswith("rainedAlgorithmicMedia") for a in actions
        ),
        software=f"{makers[0].get('name', 'unknown')} {makers[0].get('version', '')}".strip(),
        signer=signature.get("common_name") or signature.get("issuer") or "unknown",
        title=manifest.get("title", ""),
        facts=said.get(FACTS, {}),
        problems=tuple(
            f.get("explanation") or f["code"] for f in failures if f["code"] != "signingCredential.untrusted"
        ),
    )


def kind_of(path: Path) -> str:
    """MIME type.

    Raises:
        BadVideoError: a kind of file that holds no credentials.
    """
    kind = KINDS.get(path.suffix.lower().replace(".jpeg", ".jpg"))
    if kind is None:
        raise BadVideoError(f"{path} is of no kind that holds credentials; these do: {', '.join(KINDS)}.")
    return kind


def library() -> ModuleType:
    """The C2PA library.

    Raises:
        CredentialsError: it is not installed, or its native part does not load on this platform.
    """
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise CredentialsError(
            f"c2pa-python does not work here ({error}); reinstall it where wheels exist (Linux with glibc, macOS, Windows), or "
            f"write without content credentials: {OPTION}."
        ) from error
    return c2pa


class Key(NamedTuple):
    """PEM texts: the signer's certificate followed by its issuer's, and the private key."""

    certificates: bytes
    private: bytes


def config_folder() -> Path:
    """``$AVATARZOO_CONFIG``, or avatarzoo's folder in the platform's folder of settings (not created here)."""
    roaming, support = ("APPDATA", "~/AppData/Roaming"), "~/Library/Application Support"
    return user_folder("AVATARZOO_CONFIG", roaming, support, ("XDG_CONFIG_HOME", "~/.config"))


def signing_key() -> Key:
    """This computer's key, made on first use and when it has expired; readable by its owner only.

    Raises:
        CredentialsError: it cannot be read or written.
    """
    from cryptography import x509

    path = config_folder() / "content_credentials.pem"
    try:
        if path.is_file():
            private, mark, certificates = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
            key = Key(mark + certificates, private)
            expires = x509.load_pem_x509_certificates(key.certificates)[0].not_valid_after_utc
            if expires > datetime.datetime.now(datetime.UTC):
                return key
        made = new_key()
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # its owner's alone from the beginning
        with open(handle, "wb") as file:
            file.write(made.private + made.certificates)
        os.replace(
            temporary, path
        )  # of several programs at once the last one's stays; each signs with its own
    except (OSError, ValueError) as error:
        raise CredentialsError(
            f"The key for content credentials {path} cannot be read or made ({error}); repair or remove it, set "
            f"AVATARZOO_CONFIG to a folder that can be written, or write without: {OPTION}."
        ) from error
    return made


def new_key() -> Key:
    """A key with a certificate of the profile that C2PA asks for, issued by a root whose own key is thrown away."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    root, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = "avatarzoo, local root (on no trust list)"
    chain = [
        _certificate("avatarzoo on this computer (not verified)", leaf, issuer, root),
        _certificate(issuer, root, issuer, root),
    ]
    private = leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Key(b"".join(c.public_bytes(Encoding.PEM) for c in chain), private)


def _certificate(subject: str, key: Any, issuer: str, issuer_key: Any) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        parts = {NameOID.ORGANIZATION_NAME: "avatarzoo", NameOID.COMMON_NAME: text}
        return x509.Name([x509.NameAttribute(k, v) for k, v in parts.items()])

    root, now = subject == issuer, datetime.datetime.now(datetime.UTC)
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    unused = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    usage = x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **unused)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(root, 0 if root else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not root:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())

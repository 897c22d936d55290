"""Commands that work without a daemon: doctor, keys, explain, token inspect."""

import time
from difflib import get_close_matches
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.node.cli.options import MACHINE_PANEL, HomeOption, OutputFlags
from skerry.node.cli.output import print_json, print_result
from skerry.node.cli.spreading import add_commands, spread
from skerry.node.cli.wording import date_of
from skerry.node.home import Home
from skerry.protocol.error_catalog import CATALOG
from skerry.protocol.errors import FAMILIES, family_of

if TYPE_CHECKING:
    from skerry.protocol.token import JoinToken


token_app = typer.Typer(help="Look into join tokens.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    add_commands(app, MACHINE_PANEL, (doctor, keys, explain))
    token_app.command("inspect")(spread(inspect_token))
    app.add_typer(token_app, name="token", rich_help_panel=MACHINE_PANEL)


def doctor(*, output: OutputFlags, home: HomeOption = None) -> None:
    """Check this machine: what would stop a node or slow it down, and what to do about it.

    Exits with 1 if a check fails; warnings do not count.

    \b
    Examples:
      skerry doctor
      skerry doctor --format json
    """
    from skerry.node.doctor import Verdict, examine

    checks = examine(Home.resolve(home))
    if output.as_json:
        print_json([check.to_dict() for check in checks])
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{check.verdict.value:<4}  {check.name:<{width}}  {check.detail}")
            if check.fix:
                typer.echo(f"{'':<4}  {'':<{width}}  fix: {check.fix}")
    if any(check.verdict is Verdict.FAIL for check in checks):
        raise typer.Exit(1)


def keys(*, output: OutputFlags, home: HomeOption = None) -> None:
    """Show this node's identity; made now if this home has none yet.

    The fingerprint is the SHA-256 of the public key in DER, as openssl prints it:
    openssl pkey -in identity.pem -pubout -outform DER | sha256sum

    \b
    Examples:
      skerry keys
      skerry keys --format json
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from skerry.node.identity import load_or_create_identity
    from skerry.protocol.signing import peer_id_of

    place = Home.resolve(home)
    place.create()
    public = load_or_create_identity(place.identity_file).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    found = {
        "peer_id": peer_id_of(public.public_bytes_raw()),
        "key_file": str(place.identity_file),
        "fingerprint": sha256(der).hexdigest(),
    }
    print_result(found, output.kind)


def explain(
    *,
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE",
            help="Such as SK-NET-002; without it, all codes are listed.",
            autocompletion=lambda: list(CATALOG),
            show_default=False,
        ),
    ] = None,
    output: OutputFlags,
) -> None:
    """Say what causes an error, and what to do about it.

    \b
    Examples:
      skerry explain SK-NET-002
      skerry explain --format json
    """
    if code is not None:
        print_result(_explained(_known_code(code)), output.kind)
    elif output.as_json:
        print_json([_explained(each) for each in CATALOG])
    else:
        width = max(map(len, CATALOG))
        for each, entry in CATALOG.items():
            typer.echo(f"{each:<{width}}  {entry.cause}")


def _known_code(given: str) -> str:
    """Return the code as it is written. Raises: typer.BadParameter if there is none like it."""
    code = given.upper()
    if code in CATALOG:
        return code
    near = get_close_matches(code, CATALOG, n=1)
    hint = f"the nearest is {near[0]}" if near else "skerry explain lists all"
    raise typer.BadParameter(f"{given!r} is no error code; {hint}", param_hint="CODE")


def _explained(code: str) -> dict[str, Any]:
    entry, exit_code = CATALOG[code], FAMILIES[family_of(code)].exit_code
    return {"code": code, "cause": entry.cause, "fix": entry.fix, "exit_code": exit_code}


@token_app.callback()
def _token_group() -> None:
    # A group of one command would otherwise be that command itself.
    ...


def inspect_token(
    *,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="As printed by skerry init.")],
    output: OutputFlags,
) -> None:
    """Show what a join token holds: run, owner, addresses, and until when it invites.

    Its checksum and signatures are checked; nothing is sent anywhere.

    \b
    Examples:
      skerry token inspect TOKEN
      skerry token inspect TOKEN --format json
    """
    from skerry.protocol.token import decode_token

    print_result(_token_facts(decode_token(token)), output.kind)


def _token_facts(token: "JoinToken") -> dict[str, Any]:
    from skerry.protocol.codec import decode_invite

    facts: dict[str, Any] = {"run_id": token.run_id, "owner": token.owner}
    facts["bootstrap"] = list(token.bootstrap)
    if token.invite is None:
        none = "none, the run is open or keeps a list"
        return facts | {"invite": none, "expires_at": None, "expired": False}
    invite = decode_invite(token.invite.body)
    until = date_of(invite.expires_at).isoformat()
    return facts | {
        "invite": "signed by the owner",
        "invite_name": invite.nonce.hex(),
        "max_uses": invite.max_uses or "any number",
        "expires_at": until,
        "expired": invite.expires_at <= time.time(),
    }

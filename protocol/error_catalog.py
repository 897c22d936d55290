"""What every coded error means: its cause, and what the user can do about it.

`skerry explain` prints it, and docs/errors.md is generated from it. A code, once released, keeps
its meaning; a new one is added at the end of its family.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What the documentation says of one code: one sentence each, without a line break."""

    cause: str
    fix: str


FAMILY_TITLES: dict[str, str] = {
    "CFG": "Configuration and run file",
    "KEY": "Identity",
    "TOK": "Join token",
    "MAN": "Manifest",
    "NET": "Network",
    "PRO": "Protocol: what a peer sent",
    "DSK": "Disk",
    "DAT": "Data",
    "MEM": "Memory",
    "PLN": "Planning",
    "CMP": "Compute process",
    "DMN": "Daemon",
    "OWN": "Orders of the owner",
    "DEMO": "Demo",
}
"""What the middle part of a code stands for, in the order of the documentation."""

CATALOG: dict[str, Entry] = {
    "SK-CFG-001": Entry(
        "A configuration or manifest file holds a key that does not exist.",
        "Correct the key; the message names the nearest known one.",
    ),
    "SK-CFG-002": Entry(
        "A value has the wrong type or is out of its range.",
        "Correct the value; the message names the key, the value and what is allowed.",
    ),
    "SK-CFG-003": Entry(
        "The file is missing, unreadable or not TOML.",
        "Check the path and the syntax; the message names the line.",
    ),
    "SK-CFG-004": Entry(
        "The home keeps no run of that name or id, or several.",
        "Name one that the message lists, by the beginning of its id, or start a new run.",
    ),
    "SK-KEY-001": Entry(
        "The identity key cannot be read or is not an Ed25519 key in PEM.",
        "Restore the key file from a backup, or move it away to get a new identity.",
    ),
    "SK-KEY-002": Entry(
        "The identity key or the page token can be read by other users of this machine.",
        "Run chmod 600 on the file.",
    ),
    "SK-KEY-003": Entry(
        "The page token is missing or damaged.",
        "Remove the file, if there is one; the daemon makes a new one when it starts.",
    ),
    "SK-TOK-001": Entry(
        "The join token is not a skerry token or was cut short.",
        "Copy the whole token again from the output of skerry init.",
    ),
    "SK-TOK-002": Entry(
        "The token was changed: its checksum or a signature in it does not hold.",
        "Ask the run's owner for a fresh token.",
    ),
    "SK-TOK-003": Entry(
        "The invite in the token has expired.",
        "Ask the run's owner for a fresh token.",
    ),
    "SK-MAN-001": Entry(
        "The manifest's signature or hash does not match the run id of the token.",
        "Do not join: the peer you reached is not in this run. Ask the owner for a fresh token.",
    ),
    "SK-NET-001": Entry(
        "None of the run's bootstrap peers could be reached.",
        "Check that the first peer's daemon runs and that its port is open; then join again.",
    ),
    "SK-NET-002": Entry(
        "The port is already in use.",
        "Choose another port with --port, or --port 0 for any free one.",
    ),
    "SK-NET-003": Entry(
        "A peer did not answer before its deadline.",
        "Nothing to do: the request is repeated or another peer is asked.",
    ),
    "SK-NET-004": Entry(
        "The network daemon (p2pd) could not be started.",
        "Run skerry doctor; reinstall hivemind if the binary is missing.",
    ),
    "SK-NET-005": Entry(
        "The library py-libp2p is not installed, and p2pd is not there or not wanted.",
        'Install gcc and libgmp-dev (the headers of GMP), then pip install "skerry[libp2p]".',
    ),
    "SK-NET-006": Entry(
        "The address to listen on cannot be used.",
        "Set listen.host to an address of this machine, or to 0.0.0.0 for all of them.",
    ),
    "SK-PRO-001": Entry(
        "The peer speaks another version of the protocol.",
        "Install the same skerry version on both machines.",
    ),
    "SK-PRO-002": Entry(
        "The peer is in another run.",
        "Check the token: each run has its own.",
    ),
    "SK-PRO-003": Entry(
        "The peer was not admitted: its invite is missing, expired, used up, revoked or forged, or "
        "the run keeps a list on which it is not.",
        "Ask the run's owner for a fresh token, or to be put on the list with skerry allow.",
    ),
    "SK-PRO-004": Entry(
        "A peer sent something malformed, oversized, stale or forged.",
        "Nothing to do: it was refused and counted; look at the reason if it repeats.",
    ),
    "SK-PRO-005": Entry(
        "The run's owner has removed this peer from the run; the message says why.",
        "Ask the owner, who can let it in again with skerry readmit; until then it trains nothing.",
    ),
    "SK-DSK-001": Entry(
        "The disk is full.",
        "Free space or choose another --home; the daemon continues where it was.",
    ),
    "SK-DSK-002": Entry(
        "A checkpoint or a stored file is damaged.",
        "Nothing to do: it is ignored and the state is taken from another peer.",
    ),
    "SK-DSK-003": Entry(
        "The home folder, or another folder that skerry needs, cannot be created or written.",
        "Give yourself write permission, or choose another --home.",
    ),
    "SK-DSK-004": Entry(
        "The folder for an export holds other files.",
        "Name a new or empty folder, or one that holds an earlier export.",
    ),
    "SK-DAT-001": Entry(
        "The corpus is empty or too small for the model's context.",
        "Point [data] at files with more text.",
    ),
    "SK-DAT-002": Entry(
        "A line of the JSONL corpus is not a JSON object with the text field.",
        "Correct the line that the message names, or set data.field to the key of the text.",
    ),
    "SK-MEM-001": Entry(
        "The model does not fit into this machine's memory.",
        "Choose a smaller model or a larger machine; the message gives both sizes.",
    ),
    "SK-PLN-001": Entry(
        "The peers together cannot hold the model, however it is split.",
        "Choose a smaller model or add memory or peers; the message names what is short.",
    ),
    "SK-CMP-001": Entry(
        "The compute process ended unexpectedly.",
        "Nothing to do once: it is restarted and healed. If it repeats, see its log.",
    ),
    "SK-CMP-002": Entry(
        "The compute process could not do what was asked.",
        "See the message and the compute log in the daemon's home.",
    ),
    "SK-DMN-001": Entry(
        "No daemon answers for this home.",
        "Start one with skerry daemon, or let skerry join start it.",
    ),
    "SK-DMN-002": Entry(
        "Another daemon already uses this home.",
        "Use it, stop it with skerry stop, or choose another --home.",
    ),
    "SK-DMN-003": Entry(
        "The daemon already takes part in a run.",
        "Leave it first with skerry leave, or choose another --home.",
    ),
    "SK-DMN-004": Entry(
        "The daemon takes part in no run.",
        "Start one with skerry init, or join one with skerry join.",
    ),
    "SK-DMN-005": Entry(
        "The daemon did not start in time.",
        "See the daemon's log in its home.",
    ),
    "SK-DMN-006": Entry(
        "The daemon failed inside while it served a command.",
        "Look at the end of the daemon's log in its home, and report it.",
    ),
    "SK-DMN-007": Entry(
        "This machine has no service manager that skerry knows, or it does not serve this user.",
        "Use skerry daemon --detach, or start skerry daemon from the machine's own init system.",
    ),
    "SK-DMN-008": Entry(
        "The service manager refused, or the service did not start.",
        "See the message and the service's log; skerry daemon shows what is wrong by itself.",
    ),
    "SK-DMN-009": Entry(
        "The daemon serves no status page.",
        "Set page.enabled, or see in skerry logs why it could not be served; then restart it.",
    ),
    "SK-OWN-001": Entry(
        "This node holds no owner key of the run, so it can give no orders and invite nobody.",
        "Do it on the owner's machine, or on one whose key the run file names as standby.",
    ),
    "SK-OWN-002": Entry(
        "The order could have no effect; the message says why.",
        "Look at skerry peers for who is there, and correct the order.",
    ),
    "SK-DEMO-001": Entry(
        "The demo ended without showing what it must show.",
        "See the message and the logs in the demo's folder.",
    ),
}
"""Each code with its entry, in the order of the documentation."""

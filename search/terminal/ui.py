"""`attnsearch ui`: MLflow's own server on the store that the studies are recorded in."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

import click

from attnsearch.blocks.errors import AttnsearchError
from attnsearch.runs.addresses import HIDDEN, without_secrets
from attnsearch.runs.ledger import Ledger

_LINKS = 5
_PATIENCE_SECONDS = 60.0  # for the server to answer before a browser is opened


class ServerError(AttnsearchError):
    """MLflow's server cannot be started at this address."""


def serve(host: str, port: int, *, opened: bool = False) -> int:
    """Bring MLflow up to date with the ledger and become its server, until Ctrl-C.

    Args:
        host: The address to listen on.
        port: The port to listen on.
        opened: Whether to open a browser at the newest study, once the server answers.

    Returns:
        0 where a server runs already; otherwise this process goes on as the server.

    Raises:
        LedgerError: There is no ledger here.
        ServerError: The address cannot be used.
    """
    uri, links = synchronised()
    if uri.startswith(("http://", "https://")):
        click.echo(f"The records are on a server that runs already: {without_secrets(uri)}")
        _print_links(without_secrets(uri), links)
        if opened:
            _open(f"{uri.rstrip('/')}/{_first(links)}")
        return 0
    if HIDDEN in uri:
        raise ServerError(
            f"the records are at {uri}, whose login is kept nowhere; set MLFLOW_TRACKING_URI to "
            "the address with its login"
        )
    check_address(host, port)
    shown = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host
    click.echo(f"Records:  {without_secrets(uri)}")
    address = f"http://{shown}:{port}"
    click.echo(f"Open      {address}   (in a few seconds; Ctrl-C stops the server)")
    _print_links(address, links)
    sys.stdout.flush()
    if opened:
        _open_later(f"{address}/{_first(links)}", host, port)
    # The server takes this process's place: every signal then reaches it, and nothing outlives it.
    os.execve(sys.executable, server_command(host, port), server_environment(uri))


def _print_links(address: str, links: Mapping[str, str]) -> None:
    for label, link in list(links.items())[:_LINKS]:
        click.echo(f"{label}: {address.rstrip('/')}/{link}")


def _first(links: Mapping[str, str]) -> str:
    return next(iter(links.values()), "")


def _open(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        click.echo(f"no browser could be opened here; open {without_secrets(url)}", err=True)


def _open_later(url: str, host: str, port: int) -> None:
    """Open a browser once a server answers, from a process that does not outlive the attempt.

    This process becomes the server, so another one has to wait for it.
    """
    code = (
        "import socket, sys, time, webbrowser\n"
        "url, host, port, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), time.monotonic()\n"
        f"while time.monotonic() < end + {_PATIENCE_SECONDS}:\n"
        "    try:\n"
        "        socket.create_connection((host, port), 1).close()\n"
        "    except OSError:\n"
        "        time.sleep(0.2)\n"
        "    else:\n"
        "        webbrowser.open(url) or print('no browser could be opened here; open', url)\n"
        "        break\n"
    )
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    subprocess.Popen([sys.executable, "-c", code, url, reached, str(port)])


def synchronised() -> tuple[str, dict[str, str]]:
    """Write to MLflow whatever it lacks of the ledger.

    Returns:
        The store's address, for MLflow alone (it can hold a password), and by study, newest
        first, where it is seen there: the saved view of its arms or trials, after the address.
    """
    from attnsearch.runs.mirror import Mirror, study_link, tracking_uri

    with Ledger(create=False) as ledger:
        studies = ledger.studies()
        if not studies:
            return tracking_uri(), {}
        mirror = Mirror(ledger)
        # The newest first: its store is the one that is shown.
        reports = [mirror.sync(study.id) for study in reversed(studies)]
        for report in reports:
            if report.problem is not None or report.missing:
                click.echo(str(report), err=True)
        links = {
            study.label: study_link(ledger, study)
            for study in reversed(ledger.studies())
            if study.mlflow_experiment_id is not None
        }
        return tracking_uri(recorded=reports[0].uri), links


def server_command(host: str, port: int) -> list[str]:
    """Say how MLflow's server starts: one worker serves one researcher, in 0.4 GB not 1.4."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--host", host, "--port", str(port)),
        *("--workers", "1"),
    ]


def server_environment(uri: str) -> dict[str, str]:
    """Copy this process's environment, without MLflow's job queue and reports to the makers.

    The store's address stands in it and not in the command, which every user of a machine sees.
    """
    defaults = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    return {**defaults, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}


def check_address(host: str, port: int) -> None:
    """Refuse an address in use at once, with a port that is free."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ServerError(f"--host {host}: {error.strerror or error}") from None
    for candidate in range(port, min(port + 50, 65536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if candidate == port:
                    reason = error.strerror or str(error)
                continue
            if candidate == port:
                return
            raise ServerError(
                f"port {port} on {host} cannot be used ({reason}); try --port {candidate}"
            )
    raise ServerError(f"port {port} on {host} cannot be used ({reason}); choose another --port")

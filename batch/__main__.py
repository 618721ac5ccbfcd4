"""The command: checks, then Ray, then the report."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..scripts._environment import say
from ..scripts._server import ServerFault
from .cluster import SERVERS_FOLDER, TOKEN_FILE, Cluster, NoRay, Setup
from .driver import BatchStopped, Driver
from .graph import GraphFault, bind, find_graph
from .ledger import Ledger, LedgerFault
from .options import parse_arguments
from .plan import Failure, Plan, make_plan
from .progress import ProgressTable
from .rehearsal import calibrate, describe, look_for_faces
from .report import HTML, entries, write_reports
from .server import NamedServer, ServerRefused, check_server
from .shelf import WORK_FOLDER, Shelf, ShelfFault
from .table import TableFault, read_table

FAULTS_SHOWN = 50
PROBE_BYTES = 1 << 20
SERVERS_AT_ONCE = 16
CORES_PER_WORKER = 4
"""Cores for each worker on a machine without GPUs."""

REFUSED = (TableFault, GraphFault, LedgerFault, NoRay, ServerRefused, ServerFault, ShelfFault)


class FolderFault(RuntimeError):
    """The output folder cannot be used."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit status is 0 if every row is done, 1 if not, 2 if nothing was started."""
    options = parse_arguments(arguments)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            # Exit through an exception, so that runs are cancelled and the report is written.
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))
    try:
        return run(options)
    except KeyboardInterrupt:
        say("Stopped. Run the same command again to resume.")
        return 130
    except (*REFUSED, FolderFault) as error:
        say(f"Error: {error}")
        return 2
    except BatchStopped as error:
        say(f"Stopped: {error}")
        return 1


def run(options: argparse.Namespace) -> int:
    """Check everything that needs no server, then render or do the dry run."""
    table = read_table(options.table)
    template = bind(find_graph(options.workflow), table.columns)
    folder: Path = options.out
    work = prepare_folder(folder)
    with Ledger(work / "ledger.sqlite") as ledger:
        shelf = Shelf(folder, ledger)
        plan = make_plan(table, template, folder, ledger)
        shelf.recover(plan)
        printed = report_faults(plan, 0)
        if plan.waiting() and options.servers and not options.address:
            # The workers run on this machine, so their problems can be detected before Ray starts.
            plan.check_on(check_servers(options))
            printed = report_faults(plan, printed)
        if not plan.waiting():
            return finish(options, plan, ledger, {}, plan.num_done())
        setup = Setup(
            folder,
            token=uuid.uuid4().hex,
            scratch=options.scratch and options.scratch.absolute(),
            servers=options.servers,
            headers=tuple(options.header),
            cpu=False,
            comfyui_options=tuple(options.comfyui_option),
            note_interval_s=0.0,
        )
        (work / TOKEN_FILE).write_text(setup.token, encoding="utf-8")
        say("Starting Ray ..." if options.address is None else f"Connecting to Ray at {options.address} ...")
        with Cluster(options.address, dashboard=not options.no_dashboard, say=say) as cluster:
            status = on_cluster(options, cluster, setup, plan, ledger, shelf)
        if not plan.waiting():
            # Copies of the inputs, frames and logs. An unfinished batch needs the frames.
            shutil.rmtree(work / SERVERS_FOLDER, ignore_errors=True)
        return status


def check_servers(options: argparse.Namespace) -> dict[str, Any]:
    """The node infos of the first of --servers. Raises ServerRefused if one of the servers cannot be used."""
    clients = [NamedServer(url, tuple(options.header)).client() for url in options.servers]
    with ThreadPoolExecutor(SERVERS_AT_ONCE) as pool:
        first, *_ = pool.map(check_server, clients)
        return first


def prepare_folder(folder: Path) -> Path:
    """Make the output folder and return the batch's own folder in it. Raises FolderFault if it is not writable."""
    work = folder / WORK_FOLDER
    probe = work / "probe"
    try:
        work.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as stream:
                stream.write(bytes(PROBE_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise FolderFault(
            f"--out {folder}: files cannot be written to it ({error.strerror}); choose another folder"
        ) from error
    return work


def report_faults(plan: Plan, already: int) -> int:
    """Print the refused rows, except those printed already; returns their number."""
    faults = [str(plan.faults[row]) for row in sorted(plan.faults)]
    for line in faults[already : already + FAULTS_SHOWN]:
        say(line)
    if len(faults) - already > FAULTS_SHOWN:
        say(f"... and {len(faults) - already - FAULTS_SHOWN} more rows, which the report lists")
    return len(faults)


def on_cluster(
    options: argparse.Namespace, cluster: Cluster, setup: Setup, plan: Plan, ledger: Ledger, shelf: Shelf
) -> int:
    """Start the workers, check the rows with a server, then render or do the dry run."""
    earlier = plan.num_done()
    count, cpus, gpus = shares(options, len(plan.waiting()), cluster.resources())
    setup = Setup(**{**vars(setup), "cpu": gpus == 0, "note_interval_s": count / 100})
    if cluster.dashboard_url:
        say(f"Ray's dashboard is at http://{cluster.dashboard_url}")
    logs = "" if setup.servers else f" ComfyUI (logs: {(setup.scratch or setup.folder / WORK_FOLDER / SERVERS_FOLDER)})"
    say(f"{len(plan.waiting())} clips, {count} worker{'' if count == 1 else 's'}; starting{logs} ...")
    names = cluster.start_workers(setup, count, cpus=cpus, gpus=gpus)
    table = ProgressTable(names)
    driver = Driver(cluster, names, plan, ledger, shelf, table)
    printed = len(plan.faults)
    try:
        first = driver.open(all_of_them=bool(setup.servers))
        object_info = cluster.object_info(first)
        plan.check_on(object_info)
        if options.dry_run:
            warnings = look_for_faces(cluster, first, plan, object_info)
            report_faults(plan, printed)
            for warning in warnings:
                say(f"warning: {warning}")
            return rehearse(cluster, first, plan, shelf, count, options)
        report_faults(plan, printed)
        with table:
            driver.run()
    except BaseException:
        if not options.dry_run:
            finish(options, plan, ledger, driver.failures, earlier)
        if setup.servers:
            cluster.cancel()
        raise
    return finish(options, plan, ledger, driver.failures, earlier)


def rehearse(cluster: Cluster, first: int, plan: Plan, shelf: Shelf, count: int, options: argparse.Namespace) -> int:
    """Measure the speed and print the plan."""
    fits = True
    if plan.waiting():
        cost = calibrate(cluster, first, plan, shelf.parts, options.out / WORK_FOLDER)
        lines, fits = describe(plan, cost, count, options.out)
        print("\n".join(lines), flush=True)
        if not fits:
            say(f"Error: --out {options.out}: not enough disk space for the videos")
    return 0 if fits and not plan.faults else 1


def shares(options: argparse.Namespace, clips: int, resources: dict[str, float]) -> tuple[int, float, float]:
    """(workers, CPUs of each, GPUs of each). Raises NoRay if the machines do not have that many."""
    if options.servers:
        return len(options.servers), 0, 0
    total_gpus, total_cpus = resources.get("GPU", 0.0), resources.get("CPU", 1.0)
    use_gpus = total_gpus > 0 and not options.cpu
    gpus = (options.gpus_per_worker or 1.0) if use_gpus else 0.0
    default = int(total_gpus / gpus) if use_gpus else int(total_cpus / CORES_PER_WORKER)
    count = options.workers or max(1, default)
    if count * gpus > total_gpus:
        raise NoRay(f"--workers {count}: there are {total_gpus:g} GPUs; use fewer workers or --gpus-per-worker 0.5")
    if not use_gpus and count > max(1.0, total_cpus):
        raise NoRay(f"--workers {count}: there are {total_cpus:g} CPU cores; use at most that many")
    cpus = total_cpus / count
    count = min(count, clips)
    return count, float(int(cpus)) if cpus >= 1 else cpus, gpus


def finish(options: argparse.Namespace, plan: Plan, ledger: Ledger, failures: dict[str, Failure], earlier: int) -> int:
    """Write the report and return the exit status; `earlier` rows were done before this run."""
    rows = entries(plan, ledger, failures)
    done = sum(entry.state == "done" for entry in rows)
    before = f" ({earlier} of them before this run)" if earlier else ""
    try:
        write_reports(options.out, f"{options.table.name}: {options.workflow}", rows)
        report = f"Report: {options.out / HTML}"
    except OSError as error:
        report = f"The report could not be written: {error}"
    say(f"{done} of {len(rows)} rows done{before}. {report}")
    return 0 if done == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())

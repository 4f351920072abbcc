"""Another S3 server on this machine: a Ceph of one node with its RADOS gateway, from Debian's packages.

One monitor, one object store daemon that keeps everything in memory, and the gateway: a few seconds from nothing to a
server that answers, and nothing is left of it afterwards.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import urllib3

from stratus.errors import StratusError
from stratus.testing.s3_server import LocalS3, end_process, free_ports

_PACKAGES = {
    "ceph": "ceph-common",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "monmaptool": "ceph-common",
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
}
_SYSTEM = ("/usr/sbin", "/usr/local/sbin")  # not in everybody's PATH
_COMMAND_TIMEOUT = 60.0  # seconds
_START_TIMEOUT = 60.0
_MONITOR, _STORE, _GATEWAY = "a", "0", "client.rgw"

# One copy of everything on one disk that does not exist, and nothing that waits for others.
_CONFIGURATION = """\
[global]
fsid = {cluster}
mon_host = v2:127.0.0.1:{monitor_port}/0
mon_initial_members = a
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
run_dir = {directory}
admin_socket =
log_file = {directory}/$name.log
crash_dir = {directory}
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data_avail_warn = 2
mon_data_avail_crit = 1
mon_cluster_log_to_file = false
mon_tick_interval = 1
paxos_propose_interval = 0.02
paxos_min_wait = 0.01

[mon]
mon_data = {directory}/mon

[osd]
osd_data = {directory}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_max_object_name_len = 2048
osd_class_load_list = *
osd_class_default_list = *
osd_class_update_on_start = false

[client.rgw]
rgw_data = {directory}/rgw
# Without tcp_nodelay every answer waits 40 ms for an acknowledgement.
rgw_frontends = beast endpoint=127.0.0.1:{gateway_port} tcp_nodelay=1
# By default the gateway talks to monitors in secure mode only, which needs authentication: it would hang.
ms_mon_client_mode = crc secure
rgw_run_sync_thread = false
rgw_dynamic_resharding = false
rgw_override_bucket_index_max_shards = 1
rgw_num_control_oids = 1
rgw_data_log_num_shards = 1
rgw_md_log_max_shards = 1
rgw_gc_max_objs = 2
rgw_lc_max_objs = 1
rgw_usage_max_shards = 1
rgw_reshard_num_logs = 1
rgw_objexp_hints_num_shards = 1
rgw_thread_pool_size = 128
rgw_s3_auth_use_sts = true
rgw_sts_key = {sts_key}
"""


class LocalCeph(LocalS3):
    """A server with one administrator, on loopback, in a directory that goes when it stops; used as ``LocalS3``.

    Raises StratusError if the packages are not installed or it does not start.
    """

    def __init__(self) -> None:
        super().__init__()
        self._programs: Mapping[str, str] = {}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._programs = _find_programs()
        self._directory = Path(tempfile.mkdtemp(prefix="stratus-ceph-"))
        try:
            self._start_cluster()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops it; nothing happens if it does not run."""
        while self._daemons:
            end_process(self._daemons.pop(), signal.SIGKILL)  # nobody will read again what it holds
        super().stop()

    def _start_cluster(self) -> None:
        monitor_port, gateway_port = free_ports(2)
        cluster, store = str(uuid4()), str(uuid4())
        for name in ("mon", "osd", "rgw"):
            (self._directory / name).mkdir()
        (self._directory / "ceph.conf").write_text(
            _CONFIGURATION.format(
                cluster=cluster,
                directory=self._directory,
                monitor_port=monitor_port,
                gateway_port=gateway_port,
                sts_key=uuid4().hex[:16],
            )
        )
        monitors = str(self._directory / "monmap")
        address = f"v2:127.0.0.1:{monitor_port}/0"
        self._finish("monmaptool", "--create", "--fsid", cluster, "--addv", _MONITOR, address, monitors)
        self._finish("ceph-mon", "-i", _MONITOR, "--mkfs", "--monmap", monitors, "--no-mon-config")
        self._launch("ceph-mon", "-i", _MONITOR, "-f", "--no-mon-config")
        self._finish("ceph-osd", "-i", _STORE, "--mkfs", "--osd-uuid", store, "--no-mon-config")
        self._finish("ceph", "--connect-timeout", "30", "osd", "new", store)
        self._launch("ceph-osd", "-i", _STORE, "-f", "--no-mon-config")
        # Making the user lays out the gateway's pools, too.
        who = ("--uid=stratus", "--display-name=stratus", "--access-key", self.access_key, "--secret", self.secret_key)
        self._finish("radosgw-admin", "-n", _GATEWAY, "--no-mon-config", "user", "create", *who)
        gateway = self._launch("radosgw", "-n", _GATEWAY, "-f", "--no-mon-config")
        self.endpoint = f"http://127.0.0.1:{gateway_port}"
        self._wait_for(gateway)

    def _launch(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        """Starts a daemon."""
        with self._log(program).open("wb") as output:
            daemon = subprocess.Popen(
                self._command(program, words),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return daemon

    def _finish(self, program: str, *words: str) -> None:
        """Runs a command to its end. Raises StratusError."""
        log = self._log(f"{program}-once")
        with log.open("ab") as output:
            try:
                ended = subprocess.run(
                    self._command(program, words),
                    cwd=self._directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=_COMMAND_TIMEOUT,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                ended = -1
        if ended != 0:
            raise self._failure(log)

    def _command(self, program: str, words: tuple[str, ...]) -> list[str]:
        configuration = () if program == "monmaptool" else ("-c", str(self._directory / "ceph.conf"))
        return [self._programs[program], *configuration, *words]

    def _wait_for(self, gateway: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _START_TIMEOUT
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            while True:
                try:
                    pool.request("GET", f"{self.endpoint}/")
                    return
                except urllib3.exceptions.HTTPError:
                    pass
                if gateway.poll() is not None or time.monotonic() > give_up:
                    raise self._failure(self._log("radosgw"))
                time.sleep(0.05)

    def _log(self, program: str) -> Path:
        return self._directory / f"{program}.out"

    def _failure(self, log: Path) -> StratusError:
        tail = log.read_text(errors="replace")[-2000:]
        return StratusError(f"Ceph did not start: {log.stem} said: {tail}", hint="see its last words above")


def _find_programs() -> dict[str, str]:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM))
    found = {name: shutil.which(name, path=path) for name in _PACKAGES}
    missing = sorted({_PACKAGES[name] for name, program in found.items() if program is None})
    if missing:
        packages = " ".join(sorted(set(_PACKAGES.values())))
        raise StratusError(
            f"Ceph is not installed: {', '.join(missing)} is missing",
            hint=f"apt-get install --no-install-recommends {packages}",
        )
    return {name: program for name, program in found.items() if program is not None}

"""The interface that gloo is given, in a network namespace with a host name and hosts of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ASK = (
    "import os; from train.run.interfaces import choose_interface; choose_interface(); "
    "print(os.environ.get('GLOO_SOCKET_IFNAME'))"
)
ALLOWED = (
    shutil.which("unshare") is not None
    and shutil.which("ip") is not None
    and subprocess.run(["unshare", "-rnmu", "true"], check=False, capture_output=True).returncode
    == 0
)
pytestmark = pytest.mark.skipif(not ALLOWED, reason="network namespaces need unshare and ip")


def chosen(tmp_path, hosts: str, *more: str, **environment: str) -> str:
    """Ask on a machine named here with 10.5.0.1 on eth7, and 10.6.0.1 on eth8 if it is in `more`."""
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}\n")
    steps = ["hostname here", "ip link set lo up", f"mount --bind {tmp_path}/hosts /etc/hosts"]
    for name, net in (("eth7", 5), ("eth8", 6)):
        if name == "eth7" or name in more:
            steps += [f"ip link add {name} type veth peer name far{net}"]
            steps += [f"ip addr add 10.{net}.0.1/24 dev {name}", f"ip link set far{net} up"]
            steps += [f"ip link set {name} up"]
    if "route" in more:
        steps += ["ip route add default via 10.6.0.9 dev eth8"]
    job = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "10.5.0.2", **environment}
    given = [f"{name}={value}" for name, value in job.items()]
    script = " && ".join([*steps, 'exec "$@"'])
    inside = ["unshare", "-rnmu", "sh", "-c", script, "sh"]
    argv = [*inside, "env", *given, sys.executable, "-c", ASK]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("hosts", ["127.0.1.1 here", "", "10.9.9.9 here"])
def test_a_host_name_that_leads_nowhere(hosts, tmp_path):
    """Debian's, none, and one that the machine no longer has."""
    assert chosen(tmp_path, hosts, "eth8") == "eth7"  # towards the first machine
    first = "127.0.1.1 here first"
    assert chosen(tmp_path, f"{hosts}\n{first}", MASTER_ADDR="first") == "eth7"  # the only one


def test_the_first_machine_asks_the_default_route(tmp_path):
    assert chosen(tmp_path, "127.0.1.1 here", "eth8", "route", MASTER_ADDR="here") == "eth8"


def test_what_works_or_was_chosen_is_left(tmp_path):
    assert chosen(tmp_path, "10.5.0.1 here", "eth8") == "None"
    assert chosen(tmp_path, "127.0.1.1 here", LOCAL_WORLD_SIZE="4") == "None"
    assert chosen(tmp_path, "127.0.1.1 here", GLOO_SOCKET_IFNAME="mine") == "mine"

"""The public openpi-client package, unchanged and in an environment of its own (it wants numpy
below 2), gets chunks from `dipole serve`; and its wire format is what our client speaks."""

import json
import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest

from dipole.deploy import ActionSpec, Channel, RobotSpec
from dipole.deploy.inference.process import FromCheckpoint
from dipole.deploy.inference.remote import RemoteInference
from dipole.deploy.types import Request, Ticket
from dipole.deploy.wire.openpi import OpenpiTerms

sys.path.insert(0, str(Path(__file__).parent))
from tiny_checkpoint import save_tiny

pytestmark = pytest.mark.slow
TOKEN = "a token for the test"
SOLVER = {"name": "ddim", "steps": 2}
INSTALL_SECONDS = 60.0

CLIENT = """
import json, sys
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

assert np.__version__ < "2"
client = WebsocketClientPolicy(sys.argv[1], api_key=sys.argv[2])
seen = {"observation/keypoint": np.full((9, 2), 200.0), "observation/agent_pos": np.zeros(2),
        "prompt": "push the T onto its outline"}
chunk = client.infer(seen)
try:
    client.infer({"observation/agent_pos": np.zeros(2)})
    said = ""
except RuntimeError as error:
    said = str(error)
broker = ActionChunkBroker(client, action_horizon=8)
steps = [broker.infer(seen)["actions"].tolist() for _ in range(9)]
print(json.dumps({"metadata": client.get_server_metadata()["policy"], "said": said,
                  "actions": chunk["actions"].tolist(), "steps": steps}))
"""

SERVER = """
import numpy as np
from openpi_client import msgpack_numpy
from websockets.sync.server import serve

def handle(connection):
    packer = msgpack_numpy.Packer()
    connection.send(packer.pack({"robot": "somebody's"}))
    while True:
        seen = msgpack_numpy.unpackb(connection.recv())
        actions = np.arange(6, dtype=np.float32)[:, None] + seen["observation/state"]
        timing = {"infer_ms": np.float32(1.5)}
        connection.send(packer.pack({"actions": actions, "server_timing": timing}))

server = serve(handle, "127.0.0.1", 0, compression=None, max_size=None)
print(server.socket.getsockname()[1], flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def their_python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openpi")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    options = ["--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    wanted = ["openpi-client==0.1.2", "typing_extensions"]  # it imports the latter, and says not so
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), *wanted]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"openpi-client was not installed within {INSTALL_SECONDS:g} s")
    if done.returncode:
        pytest.skip(f"openpi-client cannot be installed here: {done.stderr.strip()[-300:]}")
    return folder / "bin" / "python"


def test_the_openpi_client_gets_chunks_from_dipole_serve(their_python, tmp_path):
    checkpoint = save_tiny(tmp_path / "tiny")
    words = ["port=0", "device=cpu", "solver=ddim", "solver.steps=2", f"token={TOKEN}"]
    command = [sys.executable, "-m", "dipole.apps.main", "serve", f"checkpoint={checkpoint}"]
    with subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.match(r"serving on (ws://\S+),", server.stdout.readline())[1]
            client = [their_python, "-c", CLIENT, address, TOKEN]
            done = subprocess.run(client, capture_output=True, text=True, check=False, timeout=240)
        finally:
            server.kill()
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["metadata"]["observation"]["keypoint"] == {"shape": [9, 2], "dtype": "float32"}
    assert "no 'keypoint'" in said["said"]
    _, compute = FromCheckpoint(str(checkpoint), solver=SOLVER)()
    window = {
        "keypoint": np.full((2, 9, 2), 200.0, np.float32),
        "agent_pos": np.zeros((2, 2), np.float32),
    }
    chunk = compute(Ticket(1, 1, 0.0, 0), window)["action"]  # as here, and with the same noise
    assert np.shape(said["actions"]) == (15, 2)
    np.testing.assert_allclose(said["actions"], chunk[1:], rtol=1e-5, atol=1e-6)
    assert np.shape(said["steps"]) == (9, 2)


def test_our_client_speaks_to_a_server_that_packs_as_openpi_does(their_python):
    spec = RobotSpec({"joints": Channel((2,))}, ActionSpec(("a", "b"), measured_by="joints"))
    terms = OpenpiTerms({"observation/state": "joints"}, prompt="go")
    with subprocess.Popen(
        [their_python, "-c", SERVER], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            address = f"ws://127.0.0.1:{server.stdout.readline().strip()}"
            inference = RemoteInference(address, robot=spec, openpi=terms)
            observation = {"joints": np.array([[10.0, 20.0]], np.float32)}
            inference.submit(Request(Ticket(1, 0, 0.0, 0), observation))
            until = time.monotonic() + 60
            while (result := inference.poll()) is None:
                assert time.monotonic() < until, "no answer came"
                time.sleep(0.002)
            inference.close()
        finally:
            server.kill()
    assert result.answer["action"].tolist() == [[10.0 + k, 20.0 + k] for k in range(6)]
    assert inference.spec.window.horizon == 6
    assert inference.computing.maximum == pytest.approx(0.0015)

import getpass
import json
import socket
from pathlib import Path

import torch

import largebatch
from largebatch.lab.environment import environment


def test_what_a_number_depends_on_is_there():
    found = environment()
    assert found["torch"] == torch.__version__
    assert found["largebatch"] == largebatch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["accelerator"] is None
    assert found["packages"]["scikit-learn"]


def test_no_name_of_a_host_a_user_or_a_folder():
    text = json.dumps(environment())
    for private in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert f'"{getpass.getuser()}"' not in text

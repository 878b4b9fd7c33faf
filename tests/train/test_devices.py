import pytest
import torch

from scperturb_modules._errors import DataError
from scperturb_modules.train import is_first_process, require_device


def test_one_process_is_the_first(monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    assert is_first_process()
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_first_process()


def test_what_is_there_passes():
    require_device()
    require_device("cpu", 1)


@pytest.mark.parametrize(("accelerator", "devices"), [("magic", "auto"), ("cpu", 0), ("cpu", [0, 1]), ("tpu", "auto")])
def test_what_is_not_there_is_refused_with_the_way_out(accelerator, devices):
    with pytest.raises(
        DataError, match=f"accelerator='{accelerator}'.*cannot be used here.*'auto' takes what there is"
    ):
        require_device(accelerator, devices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="accelerator='gpu'"):
        require_device("gpu")

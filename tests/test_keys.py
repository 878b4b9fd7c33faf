import pytest

from scperturb_modules._errors import MissingKeyError, name_some, require_key
from scperturb_modules._keys import ScreenKeys


def test_screen_keys_survive_uns():
    keys = ScreenKeys(perturbation_key="target", batch_key="replicate")
    stored = keys.to_uns()
    assert None not in stored.values()
    assert ScreenKeys.from_uns(stored) == keys


def test_missing_key_message_is_readable_and_lists_what_is_there():
    with pytest.raises(MissingKeyError) as caught:
        require_key("perturbation", ["condition", None], "obs", mend="Call spm.pp.standardize_perturbations first.")
    assert str(caught.value) == (
        "obs['perturbation'] does not exist; obs has 'condition'. Call spm.pp.standardize_perturbations first."
    )


def test_name_some_counts_the_rest():
    assert name_some(range(8), most=3) == "'0', '1', '2' and 5 more"

import importlib
import sys
import types

import pytest


@pytest.fixture(scope="session")
def torchaudio():
    """An oracle for filters and resampling; what is written in Python works with any torch.

    Its compiled part loads only beside the CUDA build it was made for, so it is replaced by a stub where it does not.
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules[extension.__name__] = extension
        return importlib.import_module("torchaudio")

"""Shared by the parity tests: outputs of torch modules recorded by hooks."""

import pytest


@pytest.fixture(scope="session")
def recorded():
    """recorded(modules, run) -> the outputs (NumPy) of the named torch modules during run()."""

    def record(modules: dict, run) -> dict:
        import torch

        outputs, handles = {}, []
        for name, module in modules.items():

            def hook(_, __, result, name=name):
                outputs[name] = (result[0] if isinstance(result, tuple) else result).detach().numpy()

            handles.append(module.register_forward_hook(hook))
        with torch.no_grad():
            run()
        for handle in handles:
            handle.remove()
        return outputs

    return record


def pytest_collection_modifyitems(items):
    """Files called *_parity.py need torch and transformers."""
    for item in items:
        if item.path.name.endswith("_parity.py"):
            item.add_marker(pytest.mark.parity)

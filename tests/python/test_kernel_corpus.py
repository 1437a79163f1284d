"""Kernels in the style of published ones: each against its twin in NumPy, both dialects against each other, and all of them
clean in check mode."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import invar
import kernel_tools
from kernels import CASES

pytestmark = pytest.mark.once
RUNS = [(case, dialect) for case in CASES for dialect in case.dialects]
# Check builds take twice as long to compile, so the cases take turns with their dialects.
CHECKED = [(case, case.dialects[i % len(case.dialects)]) for i, case in enumerate(CASES)]


def name_of(case, dialect):
    return f"{case.name}-{dialect}"


def names_of(runs):
    return [name_of(*run) for run in runs]


def in_threads(runs, check):
    """Every run's result or exception: compilers work on as many kernels at once as there are processors."""

    def attempt(run):
        try:
            return kernel_tools.run(*run, check=check)
        except Exception as error:  # noqa: BLE001 - the test of that kernel raises it
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names_of(runs), pool.map(attempt, runs)))


@pytest.fixture(scope="module")
def plain():
    return in_threads(RUNS, False)


@pytest.fixture(scope="module")
def checked():
    return in_threads(CHECKED, True)


def outcome(results, name):
    if isinstance(results[name], Exception):
        raise results[name]
    return results[name]


def arranged(case, outputs):
    return [case.arrange(output) for output in outputs] if case.arrange else outputs


def assert_like_twin(case, inputs, outputs):
    expected = case.twin(**inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for (name, (shape, dtype)), got, want in zip(case.outputs.items(), arranged(case, outputs), expected, strict=True):
        want = np.asarray(want)
        assert got.shape == shape == want.shape and got.dtype == np.dtype(dtype) if dtype != "bfloat16" else True
        if case.rtol == case.atol == 0:
            np.testing.assert_array_equal(got, want.astype(got.dtype), err_msg=name)
        else:
            np.testing.assert_allclose(got.astype(np.float64), want, rtol=case.rtol, atol=case.atol, err_msg=name)


def test_the_corpus_is_what_it_is_meant_to_be():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
    assert sum(len(case.dialects) == 2 for case in CASES) >= 60


@pytest.mark.parametrize("case, dialect", RUNS, ids=names_of(RUNS))
def test_against_twin(case, dialect, plain):
    assert_like_twin(case, *outcome(plain, name_of(case, dialect)))


@pytest.mark.parametrize("case", [c for c in CASES if len(c.dialects) == 2 and c.same_bits], ids=lambda c: c.name)
def test_dialects_agree_bit_for_bit(case, plain):
    metal, cuda = (outcome(plain, name_of(case, dialect))[1] for dialect in case.dialects)
    assert [a.tobytes() for a in metal] == [b.tobytes() for b in cuda]


@pytest.mark.parametrize("case, dialect", CHECKED, ids=names_of(CHECKED))
def test_check_mode(case, dialect, checked):
    """Check mode finds nothing in a correct kernel, and runs it to the same result."""
    found = checked[name_of(case, dialect)]
    if case.metal_defect and dialect == "metal":
        assert isinstance(found, invar.KernelCheckError) and {report.kind for report in found.reports} == {case.metal_defect}
    else:
        assert_like_twin(case, *outcome(checked, name_of(case, dialect)))


@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("clang++")), reason="needs g++ and clang++")
@pytest.mark.parametrize("case", CASES[::6], ids=lambda c: c.name)
def test_compilers_agree_bit_for_bit(case, monkeypatch):
    results = []
    for compiler in ("g++", "clang++"):
        monkeypatch.setenv("INVAR_CXX", compiler)
        results.append([output.tobytes() for output in arranged(case, kernel_tools.run(case, case.dialects[0])[1])])
    if case.same_bits:
        assert results[0] == results[1]

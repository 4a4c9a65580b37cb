"""What all lessons that train have in common: folders, resuming, errors and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from demos import training
from tinygen import train

from .run import ROOT, check_refusal


def step(state, batch, rng):
    return {"x": 0.5 * state["x"] + rng.normal((3,))}, {"loss": abs(state["x"]).sum()}


def fit(out, step=step, steps=6, resume=None, start=3, log_every=2, graph=None, **more):
    chosen = SimpleNamespace(steps=steps, seed=4, out=out, resume=resume, device="cpu", graph=graph)
    return training.fit(chosen, step, {"x": np.zeros(start, np.float32)}, lambda n: n, log_every, **more)["x"]


def refused(capsys, code, *arguments, **more):
    """What is said when a run ends by this exit code."""
    with pytest.raises(SystemExit) as stopped:
        fit(*arguments, **more)
    assert stopped.value.code == code
    return capsys.readouterr().err.strip()


def test_it_is_train_fit_with_what_was_chosen(tmp_path):
    plain = train.fit(step, {"x": np.zeros(3, np.float32)}, lambda n: n, 6, seed=4, progress=False)["x"]
    assert np.array_equal(fit(tmp_path / "a"), plain)
    assert [record["step"] for record in train.read_log(tmp_path / "a" / "log.jsonl")] == [1, 2, 4, 6]
    assert not np.array_equal(fit(tmp_path / "b", steps=4), plain)
    assert np.array_equal(fit(tmp_path / "b", resume=tmp_path / "b"), plain)
    fit(tmp_path / "c", steps=4)
    assert np.array_equal(fit(tmp_path / "c", steps=4, resume=True, **{"log_every": 0}), fit(tmp_path / "d", steps=4))


def test_a_second_part_goes_on_from_the_first_and_makes_no_room(tmp_path):
    fit(tmp_path / "it", steps=4)
    chosen = SimpleNamespace(steps=6, seed=4, out=tmp_path / "it", resume=None, device="cpu", graph=None)
    whole = training.fit(chosen, step, {"x": np.zeros(3, np.float32)}, lambda n: n, 2, None, 6, resume=True)["x"]
    assert np.array_equal(whole, fit(tmp_path / "other"))
    assert not (tmp_path / "it.1").exists()


def test_an_earlier_run_is_kept_whole_and_can_be_resumed_where_it_is_now(tmp_path, capsys):
    out = tmp_path / "it"
    first = fit(out, steps=4)
    (out / "samples.png").write_bytes(b"picture")
    fit(out, steps=5)
    assert f"the earlier run in {out}/ is now in {out}.1/" in capsys.readouterr().err
    fit(out, steps=6)
    kept = {path.name: train.checkpoint_info(path / "checkpoint.safetensors")["step"] for path in tmp_path.iterdir()}
    assert kept == {"it": 6, "it.1": 4, "it.2": 5}
    assert (tmp_path / "it.1" / "samples.png").exists() and not (out / "samples.png").exists()
    assert np.array_equal(fit(tmp_path / "it.1", steps=4, resume=True), first)


@pytest.mark.parametrize(
    "path", [path for path in (ROOT / "demos").glob("*.py") if "= fit(chosen, " in path.read_text()], ids=lambda path: path.stem
)
def test_a_lesson_writes_nothing_before_an_earlier_run_has_made_room(path):
    source = path.read_text()
    assert source.index("fit(chosen, ") < min(source.index(writes) for writes in ('file("', "write_whole(") if writes in source)


def test_a_folder_with_other_files_in_it_stays_where_it_is(tmp_path):
    out = tmp_path / "it"
    fit(out, steps=4)
    (out / "thesis.tex").write_text("mine")
    fit(out, steps=5)
    assert [path.name for path in tmp_path.iterdir()] == ["it"] and (out / "thesis.tex").exists()
    assert train.checkpoint_info(out / "checkpoint.1.safetensors")["step"] == 4


def test_what_a_user_can_mend_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    said = refused(capsys, 2, tmp_path / "file" / "it")
    assert said == f"cannot write to {tmp_path / 'file' / 'it'}: Not a directory; choose another --out"
    fit(tmp_path / "it")
    capsys.readouterr()
    assert "build that state with the settings of the run" in refused(capsys, 2, tmp_path / "it", resume=True, start=5)
    with train.loop.alone_in(tmp_path / "it"):
        assert "another run is writing to" in refused(capsys, 2, tmp_path / "it")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "it"}


@pytest.mark.parametrize("name", ["taxonomy", "vae"])
def test_a_folder_that_cannot_be_written_to_is_refused_at_once(tmp_path, name):
    (tmp_path / "file").write_text("")
    check_refusal(
        f"--out: cannot write to {tmp_path / 'file' / 'it'}: Not a directory", name, "--out", tmp_path / "file" / "it"
    )


def test_nan_says_where_it_came_from_and_a_bug_keeps_its_traceback(tmp_path, capsys):
    def diverging(state, batch, rng):
        return state, {"loss": float("nan") if batch == 3 else 0.0}

    assert "the metric 'loss' of step 3" in refused(capsys, 1, tmp_path / "it", step=diverging)

    def wrong(state, batch, rng):
        raise ValueError("matmul: shapes do not fit")

    with pytest.raises(ValueError, match="matmul"):
        fit(tmp_path / "it", step=wrong)


def test_ctrl_c_in_a_demo_loses_nothing_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "demos", "pixelcnn_2d", "--quick", "--out", tmp_path / "cut"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(ROOT / ".pytest_cache" / "demos")}
    run = subprocess.Popen(
        [*map(str, command), "--steps", "100000"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    log = tmp_path / "cut" / "log.jsonl"
    try:
        deadline = time.monotonic() + 120
        while not (log.exists() and log.stat().st_size):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        said = run.communicate(timeout=60)[1]
    finally:
        run.kill()
    assert run.returncode == 130 and "Traceback" not in said
    assert said.splitlines()[-1].endswith("--steps 100000 --resume goes on after the last complete step")
    assert train.checkpoint_info(tmp_path / "cut" / "checkpoint.safetensors")["step"] >= 1


def test_a_graph_is_for_a_gpu(tmp_path, capsys):
    assert refused(capsys, 2, tmp_path / "it", graph=True).startswith("fit: capture=True needs a state on a GPU")

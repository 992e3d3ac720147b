"""Saved runs: the same to the bit when read, refused when damaged, never half-written."""

import errno
import json
import os
import zipfile
from base64 import b64encode

import ml_dtypes
import numpy as np
import pytest

import varprop as vp
from varprop import _files

FORMATS = ["json", "npz"]
ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
EVERYTHING = (
    *("extremes", "kurtosis", "histogram", "correlation", "gradient_correlation"),
    "saturation(threshold=0.05)",
)
BACK = {"backward": True, "loss": "softmax_cross_entropy", "statistics": EVERYTHING}


def simulated(**options):
    net = vp.Network(
        6,
        [
            vp.Dense(5, "leaky_relu(slope=0.3)", weight="he_normal", bias="normal(std=0.1)"),
            vp.Dense(4, "tanh", weight="orthogonal", bias=None, name="é <middle>"),
            vp.Dense(3, weight=np.linspace(0, 1, 12).reshape(4, 3), bias=np.float32([0, 1, 2])),
        ],
    )
    return vp.simulate(net, options.pop("inputs", 4), **{"trials": 3, "seed": 2**200, **options})


def assert_same(one, other):
    """Assert that two runs agree to the bit in everything."""
    assert one.network == other.network
    for name in (
        *("batch", "seed", "trials", "first_trial", "dtype", "statistics", "out_of_range"),
        *("loss", "precision"),
    ):
        assert getattr(one, name) == getattr(other, name)
        assert type(getattr(one, name)) is type(getattr(other, name))
    for given in ("given_inputs", "given_targets"):
        ours, theirs = getattr(one, given), getattr(other, given)
        assert (ours is None) == (theirs is None)
        assert ours is None or ours.dtype == theirs.dtype
        assert ours is None or np.array_equal(ours, theirs)
    assert one.observed.keys() == other.observed.keys()
    for signal, observed in one.observed.items():
        assert observed.keys() == other.observed[signal].keys()
        for key, values in observed.items():
            assert values.dtype == other.observed[signal][key].dtype
            assert values.tobytes() == other.observed[signal][key].tobytes(), key
    assert str(one) == str(other)


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    return tmp_path / f"run.{request.param}"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inputs": ROWS, "dtype": "float64", "first_trial": 2**40},
        {"inputs": ROWS.astype(np.float64), "statistics": ("extremes", "kurtosis")},
        {"trials": 1, "statistics": "kurtosis"},
        {"backward": True, "trials": 1},
        {**BACK, "inputs": ROWS},
        {**BACK, "targets": np.array([2, 0, 1, 1])},
        {**BACK, "targets": np.full((4, 3), 1 / 3), "dtype": "float64"},
        {**BACK, "loss": "mse", "targets": -ROWS[:, :3]},
    ],
)
def test_round_trip_to_the_bit(path, options):
    run = simulated(**options)
    run.save(path)
    again = vp.load(str(path))
    assert_same(run, again)
    assert np.array_equal(run.weights(0), again.weights(0))
    assert np.array_equal(run.inputs(), again.inputs())
    assert run.loss in (None, "gaussian") or np.array_equal(run.targets(), again.targets())
    assert list(path.parent.iterdir()) == [path]


def test_precision_is_kept(path):
    run = simulated()
    run.precision = 0.1
    run.save(path)
    assert_same(run, vp.load(path))


def test_numbers_that_json_has_no_word_for(path):
    run = simulated()
    run.observed["activations"]["mean"][0] = np.inf, -np.inf, np.nan
    run.observed["preactivations"]["variance"][1] = 5e-324, -0.0, 1 / 3
    run.out_of_range = [("dense1", 0), ("é <middle>", 2)]
    run.save(path)
    assert_same(run, vp.load(path))
    if path.suffix == ".json":
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_bfloat16_inputs(path):
    run = simulated(inputs=ROWS)
    run.given_inputs = ROWS.astype(ml_dtypes.bfloat16)
    run.save(path)
    again = vp.load(path).given_inputs
    assert again.dtype == ml_dtypes.bfloat16
    assert np.array_equal(again, run.given_inputs)


def test_parts_may_be_joined_from_files(tmp_path):
    simulated(inputs=ROWS, trials=2).save(tmp_path / "a.json")
    simulated(inputs=ROWS, trials=1, first_trial=2).save(tmp_path / "b.npz")
    parts = vp.load(tmp_path / "a.json"), vp.load(tmp_path / "b.npz")
    assert_same(vp.concat(parts), simulated(inputs=ROWS))


def test_files_can_be_read_without_varprop(tmp_path):
    run = simulated(trials=2)
    run.save(tmp_path / "run.json")
    run.save(tmp_path / "run.npz")
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["activations"]["mean"] == run.observed["activations"]["mean"].tolist()
    assert record["stream_version"] == vp.STREAM_VERSION
    with np.load(tmp_path / "run.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["activations.mean"], run.observed["activations"]["mean"])
        assert json.loads(str(archive["run"]))["varprop"] == vp.__version__


@pytest.mark.parametrize("name", ["run.txt", "run", "run.json.gz", "npz"])
def test_suffix_must_be_known(tmp_path, name):
    for function in (simulated().save, vp.load):
        with pytest.raises(ValueError, match=r"path must end in \.json or \.npz, got .*" + name):
            function(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        vp.load(path)


def refuse(path, match="does not hold a run"):
    with pytest.raises(ValueError, match=match) as caught:
        vp.load(path)
    assert str(path) in str(caught.value)


def test_truncated_files_are_refused(path):
    simulated(inputs=ROWS).save(path)
    whole = path.read_bytes()
    for size in [*range(0, len(whole) - 1, max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refuse(path)


def is_refused(path):
    """Load a damaged file: it may be read (a digit changed, say); only ValueError may come."""
    try:
        str(vp.load(path))
    except ValueError:
        return True
    return False


def test_damaged_files_never_crash(path):
    simulated(inputs=ROWS, trials=1).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(whole), size=600):
        path.write_bytes(whole[:place] + rng.bytes(1) + whole[place + 1 :])
        refused += is_refused(path)
    assert refused > 100


def places(value, place=()):
    """Yield the place of every value in nested lists and dictionaries."""
    yield place
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*place, key))


JUNK = [None, True, "x", -1, 10**30, 1.5, [], {}, [[]], [["x"]], {"a": 1}, "nan", {"shape": 3}]


def test_wrong_types_never_crash(tmp_path):
    """Replace every value of a saved run by junk of every type."""
    path = tmp_path / "run.json"
    options = {"inputs": ROWS, "trials": 1, "statistics": "kurtosis", "backward": True}
    simulated(**options, loss="mse", targets=ROWS[:, :3]).save(path)
    text = path.read_text()
    refused = total = 0
    for place in places(json.loads(text)):
        for junk in JUNK:
            record = {"root": json.loads(text)}
            target, last = record, "root"
            for key in place:
                target, last = target[last], key
            target[last] = junk
            path.write_text(json.dumps(record["root"]))
            refused += is_refused(path)
            total += 1
    assert refused > 0.8 * total


LATER = {"loss", "targets", "precision", "method"}  # entries that older files lack


@pytest.mark.parametrize("options", [{}, BACK])
def test_missing_entries_are_named(tmp_path, options):
    path = tmp_path / "run.json"
    simulated(**options).save(path)
    text = path.read_text()
    for key in json.loads(text).keys() - {"varprop", *LATER}:
        record = json.loads(text)
        del record[key]
        path.write_text(json.dumps(record))
        refuse(path, f"does not hold a run: no entry '{key}'")


def test_missing_statistics_are_named(tmp_path):
    path = tmp_path / "run.json"
    simulated(**BACK).save(path)
    text = path.read_text()
    for signal in ("activations", "gradients", "input_gradients"):
        for key in json.loads(text)[signal]:
            record = json.loads(text)
            del record[signal][key]
            path.write_text(json.dumps(record))
            refuse(path, f"does not hold a run: no entry '{key}'")


def test_older_files_went_forward_only(tmp_path):
    path = tmp_path / "run.json"
    simulated().save(path)
    record = json.loads(path.read_text())
    assert record.keys() >= LATER
    path.write_text(json.dumps({key: record[key] for key in record.keys() - LATER}))
    assert_same(vp.load(path), simulated())
    assert vp.load(path).loss is None


def saved_labels(labels):
    data = np.array(labels, "<i8")
    base64 = b64encode(data.tobytes()).decode()
    return {"dtype": "int64", "shape": data.shape, "base64": base64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "rmse"}, "unknown loss 'rmse': did you mean 'mse'"),
        ({"loss": "bce"}, "needs a sigmoid"),
        ({"loss": None}, "none without a loss"),
        ({"loss": "gaussian"}, "targets must be None for loss 'gaussian'"),
        ({"loss": "mse"}, r"targets must have shape \(4, 3\)"),
        ({"targets": [0, 1, 2, 2]}, "targets must be an array"),
        ({"targets": saved_labels([0, 1, 2])}, r"targets must have shape \(4,\) or"),
        ({"targets": saved_labels([0, 1, 2, 3])}, "labels from 0 to 2, got 3"),
        ({"targets": saved_labels([0, -1, 2, 2])}, "labels from 0 to 2, got -1"),
        ({"precision": "narrow"}, "precision must be a number"),
        ({"precision": -1}, "precision must be"),
        ({"statistics": ["saturation(threshold=-1)"]}, "threshold must be"),
        ({"statistics": ["saturations"]}, "did you mean 'saturation'"),
    ],
)
def test_contradictions_of_the_way_back_are_refused(tmp_path, change, message):
    path = tmp_path / "run.json"
    simulated(**BACK, targets=np.array([0, 1, 2, 2])).save(path)
    record = json.loads(path.read_text())
    assert record["targets"] == json.loads(json.dumps(saved_labels([0, 1, 2, 2])))
    path.write_text(json.dumps({**record, **change}))
    refuse(path, message)


@pytest.mark.parametrize(
    ("signal", "key", "number", "message"),
    [
        ("gradients", "histogram", -1, "histogram must be at least 0"),
        ("gradients", "histogram", 10**6, "histogram must not hold more than count"),
        ("gradients", "histogram", 2**60, "histogram must be at least 0 and at most"),
        ("gradients", "histogram", 0.5, "0.5 stands where a number must"),
        ("activations", "saturation", 1.5, "saturation must be at least 0.0 and at most 1.0"),
        ("activations", "dead", -0.1, "dead must be at least 0.0"),
        ("weight_gradients", "variance", -1.0, "variance must be at least 0"),
        ("input_gradients", "exponent", 2**41, "exponent must be"),
        ("bias_gradients", "count", 0, "count must be at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(tmp_path, signal, key, number, message):
    path = tmp_path / "run.json"
    simulated(**BACK).save(path)
    record = json.loads(path.read_text())
    place = record[signal][key]
    while isinstance(place[0], list):
        place = place[0]
    place[0] = number
    path.write_text(json.dumps(record))
    refuse(path, message)


@pytest.mark.parametrize("cut", ["trials", "layers", "bins"])
def test_histograms_of_another_shape_are_refused(path, cut):
    run = simulated(**BACK)
    where = {"trials": np.s_[1:], "layers": np.s_[:, 1:], "bins": np.s_[:, :, 1:]}[cut]
    run.observed["gradients"]["histogram"] = run.observed["gradients"]["histogram"][where]
    run.save(path)
    refuse(path, r"histogram must be int64 \(3, 3, 515\), got int64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream_version": 2}, "stream version must be 1, got 2"),
        ({"trials": 4}, r"float64 \(4, 3\), got float64 \(3, 3\)"),
        ({"trials": 10**15}, r"mean must be float64 \(1000000000000000, 3\)"),
        ({"out_of_range": [["dense1", 3]]}, "trials of the run, got 3"),
        ({"out_of_range": [["dense9", 1]]}, "unknown layer 'dense9'"),
        ({"statistics": ["moments", "extremes"]}, "no entry 'minimum'"),
        ({"dtype": "float23"}, "unknown dtype 'float23'"),
        ({"inputs": 0}, "inputs must be an integer >= 1"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_contradictions_are_refused(tmp_path, change, message):
    path = tmp_path / "run.json"
    simulated().save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuse(path, message)


@pytest.mark.parametrize(
    "array",
    [
        {"dtype": "float32", "shape": [10**12, 6], "base64": "AAAA"},
        {"dtype": "float32", "shape": [4, 6], "base64": "AAAA"},
        {"dtype": "float32", "shape": [4, 6], "base64": "not base64"},
        {"dtype": "object", "shape": [1, 1], "base64": "AAAAAAAA"},
        {"dtype": "float32", "shape": [1, 2], "base64": "AAAAAAAAAAA="},
    ],
)
def test_arrays_that_lie_about_themselves(tmp_path, array):
    path = tmp_path / "run.json"
    simulated(inputs=ROWS).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "inputs": array}))
    refuse(path)


def test_deep_nesting_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("[" * 100_000)
    refuse(path)


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """Change the members of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_npz_that_claims_too_much(tmp_path):
    path = tmp_path / "run.npz"
    simulated(inputs=ROWS).save(path)

    def claim(members):
        data = members["inputs.npy"]
        members["inputs.npy"] = data.replace(b"(4, 6), }" + b" " * 12, b"(4000000000000, 6), }")
        assert members["inputs.npy"] != data

    rewritten(path, claim)
    refuse(path)


def test_npz_that_would_explode(tmp_path):
    path = tmp_path / "run.npz"
    simulated().save(path)
    rewritten(path, lambda members: members.update(bomb=bytes(10**6)), zipfile.ZIP_DEFLATED)
    refuse(path, "claim more than the file's size")


def test_npz_never_unpickles(tmp_path):
    path = tmp_path / "run.npz"
    np.savez(path, run=np.array([{"a": 1}], dtype=object))
    refuse(path)
    np.save(path.with_suffix(".npy"), np.ones(3))
    path.with_suffix(".npy").rename(path)
    refuse(path)


def test_a_failed_write_leaves_what_was_there(path, monkeypatch):
    run = simulated()
    run.save(path)
    before = path.read_bytes()
    run.observed["activations"]["mean"] = np.array([object()])
    with pytest.raises((ValueError, TypeError)):
        run.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        with _files.atomic(tmp_path / "a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_targets_that_are_no_files(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        simulated().save(tmp_path / "run.json")
    with pytest.raises(OSError, match="not a regular file: /dev/null"):
        _files.target("/dev/null")
    with pytest.raises(FileNotFoundError, match="no such directory"):
        simulated().save(tmp_path / "nowhere" / "run.json")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"run"'])
def test_json_of_something_else(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    refuse(tmp_path / "a.json", "where a record of a run must stand")


def test_suffixes_in_capitals(tmp_path):
    for name in ("A.JSON", "A.Npz"):
        simulated().save(tmp_path / name)
        assert str(vp.load(tmp_path / name)) == str(simulated())


def test_targets_without_permission(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.touch()
    real, closed = os.access, []  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda at, mode: at not in closed and real(at, mode))
    closed.append(path)
    with pytest.raises(PermissionError, match=r"write: .*run\.json"):
        _files.target(path)
    closed[:] = [tmp_path.resolve()]
    with pytest.raises(PermissionError, match="write in directory: "):
        _files.target(path)


def test_a_failed_write_names_the_file(tmp_path):
    def full():
        with _files.atomic(tmp_path / "a"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*/a'"):
        full()
    name = "x" * 254 + "é"  # too long
    with pytest.raises(OSError, match=r"too long: .*xxx"), _files.atomic(tmp_path / name):
        pass
    assert not list(tmp_path.iterdir())


def test_links_are_followed(tmp_path):
    (tmp_path / "link.json").symlink_to("real.json")
    simulated().save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert_same(vp.load(tmp_path / "real.json"), simulated())


def test_new_files_have_the_usual_permissions(path):
    simulated().save(path)
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode

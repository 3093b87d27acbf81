"""The reader of pickles: what Python's own gives, at once and without running anything."""

import contextlib
import copyreg
import gc
import io
import itertools
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pickles import Call, Python2Pickler
from zoo.datasets.readers import mapped_npz
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError

LARGE_TEXT = 256  # characters, from which on a string of Python 2 comes as bytes
RNG = np.random.default_rng(0)
CUBE = RNG.integers(0, 256, (6, 7, 11), np.uint8)
SHARED = ["one", CUBE]
OBJECTS: dict[str, Any] = {
    "C order": CUBE,
    "Fortran's order": np.asfortranarray(CUBE),
    "transposed": CUBE.T,
    "permuted": CUBE.transpose(1, 0, 2),
    "every other": CUBE[::2, ::-1],
    "small": CUBE[0, 0],
    "empty": [np.empty((0, 3), np.float32), np.empty(0, np.int64)],
    "no axes": np.array(5.5),
    "kinds": [CUBE.astype(kind) for kind in ("i1", "i2", "i4", "i8", "u2", "u4", "u8")],
    "floats": [RNG.normal(size=5), RNG.normal(size=(3, 99)).astype(np.float32)],
    "truths": CUBE > 99,
    "another machine's": [CUBE.astype(">i4"), np.arange(3, dtype=">f8")],
    "scalars": [np.int64(-3), np.float32(0.5), np.bool_(True), np.uint8(200)],
    "dtype": np.dtype(np.int32),
    "containers": {
        "a": [1, [2, (3,), ()], {}],
        5: {"b": None, None: [True, False]},
        0.5: (1, 2, 3),
    },
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 1e300],
    "texts": [
        "",
        "é",
        "x" * LARGE_TEXT,
        "é\n\\'\"" * LARGE_TEXT,
        {"k" * LARGE_TEXT: "v" * LARGE_TEXT},
    ],
    "bytes": [b"", b"\xff\n", b"\x80" * LARGE_TEXT, bytes(range(256)) * 9],
    "tuples of arrays": [
        (CUBE, 1),
        ((CUBE, b"x" * LARGE_TEXT), "y" * LARGE_TEXT, *range(9)),
        (CUBE,),
    ],
    "shared": {"first": SHARED, "second": SHARED, "third": (SHARED, CUBE)},
    "ordered": OrderedDict(b=1, a=[CUBE]),
    "one by one": [OrderedDict([("k", 2)]), OrderedDict()],
    "Python 2's ordered": Call(OrderedDict, [["b", 1], ["a", CUBE]]),
    "many": [RNG.integers(0, 256, (n, 1), np.uint8) for n in range(0, 3000, 7)],
}


def python_2(thing: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(thing)
    return file.getvalue()


WAYS: dict[str, Callable[[Any], bytes]] = {
    f"protocol {protocol}": lambda thing, protocol=protocol: pickle.dumps(thing, protocol)
    for protocol in range(6)
} | {"Python 2": python_2}


def as_bytes_if_long(thing: Any) -> Any:
    """Long strings of Python 2 come as bytes: they are the content of arrays."""
    if isinstance(thing, str) and len(thing) >= LARGE_TEXT:
        return thing.encode("latin1")
    if isinstance(thing, list | tuple):
        return type(thing)(map(as_bytes_if_long, thing))
    if isinstance(thing, dict):
        return {as_bytes_if_long(key): as_bytes_if_long(value) for key, value in thing.items()}
    return thing


def same(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.ndarray):  # ours stay in the file's byte order
        kinds = {thing.dtype.newbyteorder("=") for thing in (got, wanted)}
        return len(kinds) == 1 and got.shape == wanted.shape and bool((got == wanted).all())
    if isinstance(wanted, dict):
        return type(got) is dict and same([*got.items()], [*wanted.items()])
    if isinstance(wanted, list | tuple):
        return type(got) is type(wanted) and len(got) == len(wanted) and all(map(same, got, wanted))
    return type(got) is type(wanted) and got == wanted


def read(raw: bytes, folder: Path) -> Any:
    """What is in the pickle, whose file is gone afterwards."""
    path = folder / "file"
    path.write_bytes(raw)
    try:
        return unpickle(path)
    finally:
        path.unlink()


def complaint(raw: bytes, folder: Path) -> str:
    """What is said about a bad pickle: one line that names the file and ends with advice."""
    with pytest.raises(UsageError) as error:
        read(raw, folder)
    message = str(error.value)
    assert message.startswith(f"{folder / 'file'}: ") and "; fetch it again" in message
    assert "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OBJECTS)
def test_gives_what_pythons_own_gives(name: str, way: str, tmp_path: Path) -> None:
    raw = WAYS[way](OBJECTS[name])
    wanted = pickle.loads(raw, encoding="latin1")
    assert same(read(raw, tmp_path), as_bytes_if_long(wanted) if way == "Python 2" else wanted)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_reads_what_numpy_1_and_2_write(protocol: int, tmp_path: Path) -> None:
    things = [CUBE, CUBE.T, CUBE.transpose(1, 0, 2), np.int64(5)]
    raw = pickle.dumps(things, protocol)
    here, there = b"numpy._core.", b"numpy.core."
    if here not in raw:
        here, there = there, here
    for module in (b"multiarray", b"numeric"):
        old, new = here + module, there + module
        raw = raw.replace(b"\x8c%c" % len(old) + old, b"\x8c%c" % len(new) + new)
        raw = raw.replace(b"c" + old, b"c" + new)
    assert here not in raw
    assert same(read(raw, tmp_path), things)


def test_reads_permuted_axes_of_any_numpy(tmp_path: Path) -> None:
    """From 2.4 on, protocol 5 says how the axes are permuted."""
    from_buffer = np.empty(1).__reduce_ex__(5)[0]
    raw = CUBE.tobytes()
    thing = Call(from_buffer, raw, CUBE.dtype, CUBE.shape, "K", (2, 0, 1))
    assert same(read(pickle.dumps(thing, 5), tmp_path), CUBE.transpose(2, 0, 1))
    thing = Call(from_buffer, raw, CUBE.dtype, CUBE.shape, "K", (2, 0))
    assert "axes" in complaint(pickle.dumps(thing, 5), tmp_path)


def test_recursive_containers(tmp_path: Path) -> None:
    things: list[Any] = [{}]
    things += [things, (things, CUBE)]
    things[0]["self"] = things
    for write in WAYS.values():
        got = read(write(things), tmp_path)
        assert got[0]["self"] is got and got[1] is got and got[2][0] is got
        assert (got[2][1] == CUBE).all()


PEAK = """
import sys
from pathlib import Path
from zoo.datasets.readers.safe_pickle import unpickle
from zoo.errors import UsageError

def memory(kind):
    status = Path("/proc/self/status").read_text()
    return int(status.split(kind + ":")[1].split()[0]) * 1024

before = memory("VmRSS")
for path in sys.argv[1:]:
    try:
        content = unpickle(Path(path))
    except UsageError:
        pass
print(memory("VmHWM") - before)
"""


def peak_of_reading(*paths: Path) -> int:
    """Bytes by which reading some pickles raises a process's memory, at most."""
    command = [sys.executable, "-c", PEAK, *map(str, paths)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc/self/status"
)


@needs_proc
@pytest.mark.parametrize("way", ["Python 2", *(f"protocol {p}" for p in (2, 4, 5))])
@pytest.mark.parametrize("rows", [1, 5000], ids=["one array", "many arrays"])
def test_reading_takes_little_more_memory_than_the_file(
    way: str, rows: int, tmp_path: Path
) -> None:
    images = RNG.integers(0, 256, (rows, 50_000_000 // rows), np.uint8)
    path = tmp_path / "file"
    path.write_bytes(WAYS[way]({"data": list(images)}))
    assert peak_of_reading(path) < 2.2 * path.stat().st_size


def reconstruct(state: object) -> bytes:
    """An array that is told a state of our choice."""
    function, arguments, _ = CUBE.__reduce__()
    return pickle.dumps(Call(function, *arguments, state=state), 3)


U1 = np.dtype(np.uint8)
FORGED = (3, "|", None, ("a",), {"a": (U1, 0)}, 16, 1, 27)
TEXT = b"\x8c"  # SHORT_BINUNICODE


def dotted(module: bytes, name: bytes) -> bytes:
    """A global by way of the stack, called with nothing."""
    texts = b"".join(TEXT + bytes([len(text)]) + text for text in (module, name))
    return b"\x80\x04" + texts + b"\x93)R."


REFUSED: dict[str, tuple[bytes, str]] = {
    "attribute of a module": (dotted(b"os", b"system"), "'os.system'"),
    "attribute of an attribute": (dotted(b"numpy", b"dtype.mro"), "'numpy.dtype.mro'"),
    "module as a name": (dotted(b"numpy.core", b"multiarray._reconstruct"), "'numpy.core.mult"),
    "numpy's helpers": (dotted(b"numpy.testing", b"rundocs"), "'numpy.testing.rundocs'"),
    "lines in a name": (dotted(b"a\nb", b"c"), r"'a\nb.c'"),
    "Python 2's": (b"c__builtin__\neval\n.", "'__builtin__.eval'"),
    "a class made anew": (
        pickle.dumps(Call(copyreg._reconstructor, object, object, None), 2),
        "_rec",
    ),
    "object array": (pickle.dumps(np.array([None])), "'O8'"),
    "object array by its state": (reconstruct((1, (1,), U1, False, [None])), "array of objects"),
    "texts": (pickle.dumps(np.array(["a"])), "'U1'"),
    "records": (pickle.dumps(np.zeros(1, "i4,f4")), "'V8'"),
    "forged dtype": (pickle.dumps(Call(np.dtype, "u1", False, True, state=FORGED), 2), "dtype"),
    "another codec": (b"c_codecs\nencode\n(Va\nVrot13\ntR.", "'rot13'"),
    "a codec that is none": (b"c_codecs\nencode\n(Va\n]tR.", "'list'"),
    "state of a dictionary": (pickle.dumps(Call(OrderedDict, state={"a": 1}), 2), "'dict'"),
    "call of a class": (b"cnumpy\nndarray\n)R.", "'numpy.ndarray'"),
    "call of text": (b"Va\n)R.", "'a'"),
    "state of a name": (b"cnumpy\ndtype\n}b.", "'numpy.dtype'"),
    "state of a filled array": (pickle.dumps(CUBE, 2)[:-1] + b"Nb.", "'ndarray'"),
    "state of a list": (b"](N}tb.", "'list'"),
    "array of a class": (b"cnumpy.core.multiarray\n_reconstruct\n(N(I0\ntU\x01btR.", "ndarray"),
} | {
    name: (raw + b".", f"'{name}'")
    for name, raw in {
        "INST": b"(ios\nsystem\n",
        "OBJ": b"(cnumpy\ndtype\no",
        "NEWOBJ": b"cnumpy\ndtype\n)\x81",
        "NEWOBJ_EX": b"cnumpy\ndtype\n)}\x92",
        "EXT1": b"\x82\1",
        "EXT2": b"\x83\1\1",
        "EXT4": b"\x84\1\1\1\1",
        "LONG4": b"\x8b\xff\xff\xff\x7f\x01",
        "PERSID": b"Pa\n",
        "BINPERSID": b"NQ",
        "NEXT_BUFFER": b"\x97",
        "READONLY_BUFFER": b"C\0\x98",
        "EMPTY_SET": b"\x8f",
        "FROZENSET": b"(\x91",
    }.items()
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str, tmp_path: Path) -> None:
    raw, word = REFUSED[name]
    message = complaint(raw, tmp_path)
    assert "refused" in message and word in message and "nothing was run" in message, message


@pytest.mark.parametrize(
    "hostile",
    [
        Call(os.system, "touch hacked"),
        Call(eval, "open('hacked', 'w')"),
        Call(getattr, 1, "real"),
        Call(np.load, "hacked"),
        np.array([Call(os.system, "touch hacked")], dtype=object),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_runs_nothing(
    hostile: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad").write_bytes(pickle.dumps(hostile, protocol))
    with pytest.raises(UsageError, match=r"refused.*'[\w.]+'.*nothing was run"):
        unpickle(tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def dumped_dictionary(key: bytes) -> bytes:
    return b"}" + key + b"Ns."


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", "EOFError"),
    "no pickle": (b"<html>", "no opcode"),
    "no end": (b"\x80\x02]", "EOFError"),
    "cut short": (pickle.dumps(CUBE)[:-99], "truncated"),
    "more after its end": (pickle.dumps(CUBE) + b"\n", "after its end"),
    "no mark": (b"Nt.", "pop from empty list"),
    "empty stack": (b".", "pop from empty list"),
    "nothing to keep": (b"q\0.", "list index"),
    "nothing to double": (b"2.", "list index"),
    "nothing kept": (b"h\5.", "index 5"),
    "long length": (b"\x8e" + b"\xff" * 8 + b".", "maximum size"),
    "negative length": (b"T\xff\xff\xff\xff.", "-1 bytes"),
    "long integer": (b"\x8a\xff" + b"\x7f" * 255 + b".", "64 bits"),
    "long digits": (b"L" + b"9" * 5000 + b"L\n.", "4300 digits"),
    "hexadecimal digits": (b"I0x" + b"f" * 5000 + b"\n.", "64 bits"),
    "no quotes": (b"Sabc\n.", "quotes"),
    "no text": (b"X\1\0\0\0\xff.", "utf-8"),
    "dictionary as a key": (dumped_dictionary(b"}"), "key"),
    "tuple as a key": (dumped_dictionary(b")"), "key"),
    "array as a key": (dumped_dictionary(pickle.dumps(CUBE, 2)[2:-1]), "key"),
    "key without a value": (b"(Nd.", "shorter"),
    "entries of a list": (b"]NNs.", "'list'"),
    "entries of a dictionary": (b"}Na.", "'dict'"),
    "array of too few bytes": (reconstruct((1, (9,), U1, False, b"x" * 8)), "too small"),
    "array of too many": (reconstruct((1, (9,), U1, False, b"x" * 999)), "999 bytes"),
    "huge array": (reconstruct((1, (2**40, 2**40), U1, False, b"")), "too big"),
    "array of nothing": (reconstruct((1, (0, 2**62, 2**62), U1, False, b"")), "too big"),
    "negative axes": (reconstruct((1, (-2, -2), U1, False, b"xxxx")), "negative"),
    "many axes": (reconstruct((1, (1,) * 65, U1, False, b"x")), "dimension"),
    "old state": (reconstruct((0, (1,), U1, False, b"x")), "version"),
    "letters beyond latin1": (reconstruct((1, (1,), U1, False, "\u1234")), "latin"),
    "many letters beyond": (
        reconstruct((1, (LARGE_TEXT,), U1, False, "\u1234" * LARGE_TEXT)),
        "latin",
    ),
    "scalar of two": (pickle.dumps(Call(np.int8(1).__reduce__()[0], U1, b"ab"), 3), "2 bytes"),
    "global of no text": (b"\x80\x04NN\x93.", "requires str"),
    "wrong arguments": (b"cnumpy\ndtype\n)R.", "argument"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    raw, word = DAMAGED[name]
    message = complaint(raw, tmp_path)
    assert "truncated or damaged" in message and word in message, message


DEEP = 1_000_000
NESTED = {
    "lists": b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "tuples": b")" + b"\x85" * DEEP + b".",
    "dictionaries": b"}K\0" * 99999 + b"Ns" + b"s" * 99998 + b".",
    "tuples of data": b"B\0\4\0\0" + bytes(1024) + b"\x85" * 99999 + b".",
    "lists, left alone": b"]" * 99999,
    "marks": b"(" * 99999 + b".",
    "keys": b"})" + b"\x85" * DEEP + b"Ns.",
    "names of dtypes": b"cnumpy\ndtype\n)" + b"\x85" * DEEP + b"R.",
    "codecs": b"c_codecs\nencode\nN)" + b"\x85" * 99999 + b"\x86R.",
}


@pytest.mark.parametrize("name", NESTED)
def test_no_nesting_is_too_deep(name: str, tmp_path: Path) -> None:
    try:
        thing = read(NESTED[name], tmp_path)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert name in ("lists", "tuples", "dictionaries", "tuples of data")
        del thing
    gc.collect()


LITTLE = {
    "bytes again and again": (
        b"V" + b"a" * 10**6 + b"\nq\0000c_codecs\nencode\nq\0010Vlatin1\nq\0020"
        b"]" + b"h\1h\0h\2\x86Ra" * 999 + b"."
    ),
    "dictionaries again and again": (
        b"](" + b"".join(b"](M" + i.to_bytes(2, "little") + b"Ne" for i in range(9999)) + b"e"
        b"q\0040ccollections\nOrderedDict\nq\0050](" + b"h\5h\4\x85R" * 999 + b"e."
    ),
    "a far entry of the memo": b"Nr\xff\xff\xff\x0f.",
    "a bytearray of a claimed length": b"\x96" + (1 << 30).to_bytes(8, "little") + b"x.",
    "bytes of a claimed length": b"\x8e" + (1 << 30).to_bytes(8, "little") + b"x.",
    "a frame of a claimed length": b"\x80\4\x95" + (1 << 30).to_bytes(8, "little") + b"N.",
}


@needs_proc
def test_little_pickle_cannot_become_much(tmp_path: Path) -> None:
    for name, raw in LITTLE.items():
        (tmp_path / name).write_bytes(raw)
    assert peak_of_reading(*map(tmp_path.joinpath, LITTLE)) < 3e7
    for name in ("bytes again and again", "dictionaries again and again"):
        with pytest.raises(UsageError, match=r"refused.* more data than it holds"):
            unpickle(tmp_path / name)


def test_names_as_data_are_texts(tmp_path: Path) -> None:
    assert read(b"]cnumpy\ndtype\na.", tmp_path) == ["numpy.dtype"]


SAMPLES = [
    write(
        [OBJECTS[name] for name in ("small", "floats", "containers", "texts", "ordered", "scalars")]
    )
    for write in WAYS.values()
]


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4),
    st.none() | st.integers(0, 1 << 16),
)
def test_any_damage_gives_a_value_or_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    sample: bytes,
    flips: list[tuple[int, int]],
    end: int | None,
) -> None:
    raw = bytearray(sample)
    for at, byte in flips:
        raw[at % len(raw)] = byte
    with contextlib.suppress(UsageError):
        read(bytes(raw[:end]), tmp_path_factory.getbasetemp())


@given(st.binary(max_size=100))
def test_any_bytes_give_a_value_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    with contextlib.suppress(UsageError):
        read(raw, tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("raw", [b"(0N.", b"Nq\0q\0."], ids=["a mark dropped", "kept twice"])
def test_what_picklers_seldom_write_is_read_as_python_does(raw: bytes, tmp_path: Path) -> None:
    assert read(raw, tmp_path) is pickle.loads(raw) is None


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none: cannot be read \(No such file.*fetch"):
        unpickle(tmp_path / "none")


def test_what_must_be_held_in_memory_is_said_beforehand(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zoo.datasets.readers.safe_pickle.LARGE_FILE", 1000)
    monkeypatch.setattr("zoo.datasets.readers.mapped_npz.LARGE_COPY", 1000)
    array = np.arange(4000).astype(np.uint8)
    for count, said in ((4000, True), (10, False)):
        (tmp_path / "pickle").write_bytes(pickle.dumps(array[:count]))
        assert (unpickle(tmp_path / "pickle") == array[:count]).all()
        assert ("held in memory" in capsys.readouterr().err) == said
    for save, said in ((np.savez_compressed, True), (np.savez, False)):
        save(tmp_path / "some.npz", images=array)
        assert (mapped_npz.member(tmp_path / "some.npz", "images") == array).all()
        assert ("compressed, so held in memory" in capsys.readouterr().err) == said


def test_an_array_shorter_than_its_member_is_refused(tmp_path):
    """As where one bit of the header's length is wrong: spaces are taken for pixels."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(100, dtype=np.uint8))
    shorter_header = bytearray(file.getvalue())
    shorter_header[8] -= 8
    longer = file.getvalue() + b"x"
    path = tmp_path / "a.npz"
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    for content, kind in itertools.product((bytes(shorter_header), longer), kinds):
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("a.npy", content)
        with pytest.raises(UsageError, match="npz: expected a whole npz file of plain arrays"):
            mapped_npz.member(path, "a")


def test_an_array_that_is_not_there_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(UsageError, match="expected an array 'labels' in it"):
        mapped_npz.member(tmp_path / "a.npz", "labels")

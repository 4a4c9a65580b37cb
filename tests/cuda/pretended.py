r"""A GPU that is not there: arrays that behave as CuPy's would, and refuse whatever would move numbers behind one's back.

    with pretended.gpu() as transfers:
        x = to_device(x, "gpu")                 x is an array of a module called cupy
        y = vae.elbo(x, rng)                    ... which NumPy does not get to see

The arrays hold NumPy's inside. Operators, methods and the functions of the module `cupy` take them and plain numbers; a NumPy
array among the arguments is an error, as it is with CuPy. What CuPy allows and we do not want is an error too: a NumPy function
of a device array, and a NumPy array as an index. What passes between the devices is written down in `transfers`, with the line
that asked for it: uploads (asarray), downloads (get), and single numbers that are read (float(x), bool(x), x.item(), ...), for
which the processor would wait until the device has done all that it was given.

Kernels are the real ones: gpu.py and its .cu, run by the harness.

Streams and graphs pretend, too. While a stream is capturing, each function of the module and each launch is written down with
the very arrays that it reads and writes; its results are forgotten when the capture ends, as a GPU makes none; and a launch of
the graph does all of it again, into the same arrays. An error, as it is there or worse: whatever waits for the GPU (a number
that is read, a sort, a mask as an index), what calls cuBLAS or cuSOLVER, and memory that comes from anywhere but a pool which
belongs to the graph and has given out as much before. Numbers that are copied to the GPU come through pinned memory, which has
other uses by then: a launch of the graph finds NaN there.
"""

import operator
import sys
import traceback
import types
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tests.cuda.harness import Harness
from tinygen.kernels import cuda

METHODS = """all any argmax argmin argsort astype clip copy cumsum dot fill max mean min prod ravel repeat reshape round
squeeze std sum swapaxes take transpose var view""".split()
OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift lt le gt ge eq ne".split()
FUNCTIONS = """abs absolute all any arange argmax argmin argsort broadcast_to ceil clip concatenate cos cosh cumsum diag diff
dot einsum empty empty_like exp expand_dims expm1 eye flip floor full full_like indices isfinite isinf isnan linspace log
log1p matmul max maximum mean meshgrid min minimum moveaxis ones ones_like outer pad power prod repeat reshape round sign sin
sinh sort split sqrt square squeeze stack std sum swapaxes take take_along_axis tan tanh tensordot tile transpose tri tril
triu var where zeros zeros_like""".split()
LINEAR_ALGEBRA = "inv solve slogdet cholesky norm qr eigh".split()
NUMBERS = (bool, int, float, complex, np.generic)
LIBRARIES = {"matmul", "dot", "einsum", "tensordot", *LINEAR_ALGEBRA} - {"norm"}  # which CuPy refuses to call in a capture
WAITING = {"sort", "argsort"}  # for the GPU
UPLOADED = 8  # arrays: of more, CuPy's concatenate makes a table


class Transfers:
    """What passed between the devices: lists of descriptions."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.uploads, self.downloads, self.reads = [], [], []

    def note(self, kind, what):
        if kind == "uploads":
            _pinned_memory(what)
        else:
            _refuse_in_capture(what)
        frames = traceback.extract_stack(sys._getframe(1))
        place = next(frame for frame in reversed(frames) if frame.filename != __file__)
        getattr(self, kind).append(f"{what}, {Path(place.filename).name}:{place.lineno}: {place.line}")


_transfers = Transfers()


class ndarray:
    """An array on the GPU that is not there."""

    __slots__ = ("__weakref__", "_inside")
    __array_priority__ = 100
    __hash__ = object.__hash__

    def __init__(self, inside):
        self._inside = inside

    shape = property(lambda self: self._inside.shape)
    dtype = property(lambda self: self._inside.dtype)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    nbytes = property(lambda self: self._inside.nbytes)
    itemsize = property(lambda self: self._inside.itemsize)
    strides = property(lambda self: self._inside.strides)
    flags = property(lambda self: self._inside.flags)
    T = property(lambda self: wrap(self._inside.T))
    data = property(lambda self: SimpleNamespace(mem=_owner(self._inside)))

    def __len__(self):
        return len(self._inside)

    def __iter__(self):
        return (wrap(row) for row in self._inside)

    def __repr__(self):
        return f"pretended {self.dtype}{self.shape}"

    def __getitem__(self, key):
        key = _unwrap_key(key)
        keys = key if isinstance(key, tuple) else (key,)
        if not any(k is Ellipsis for k in keys):
            keys = *keys, ...  # so that one number is a part of the array, too
        return _made("getitem", operator.getitem, [self._inside, keys])

    def __setitem__(self, key, value):
        _in_place(operator.setitem, self._inside, _unwrap_key(key), _unwrap(value, "assignment"))

    def get(self):
        _transfers.note("downloads", repr(self))
        return self._inside.copy()

    def set(self, values):
        _transfers.note("uploads", f"{type(values).__name__}{np.shape(values)}")
        assert values.dtype == self.dtype and values.shape == self.shape, "cupy: set copies numbers of one shape and dtype"
        self._inside[...] = values

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy's number * array comes here, and is ours; a function of NumPy's own is refused."""
        if method == "__call__" and not kwargs and any(isinstance(a, np.generic) for a in inputs):
            return _made(ufunc.__name__, ufunc, [_unwrap(a, ufunc.__name__) for a in inputs])
        raise TypeError(f"numpy.{ufunc.__name__} was given an array on the GPU, {self!r}")

    def __array_function__(self, function, kinds, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} was given an array on the GPU, {self!r}")

    def __array__(self, *_, **__):
        raise TypeError(f"an array on the GPU, {self!r}, would have been copied to the CPU: use to_device")

    def _read(self):
        _transfers.note("reads", repr(self))
        return self._inside

    def __bool__(self):
        return bool(self._read())

    def __float__(self):
        return float(self._read())

    def __int__(self):
        return int(self._read())

    __index__ = __int__

    def __format__(self, how):
        return format(self._read(), how) if how else repr(self)

    def item(self, *place):
        return self._read().item(*place)

    def tolist(self):
        return self._read().tolist()


def wrap(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(np.asarray(x))
    if isinstance(x, (tuple, list)):
        return type(x)(*map(wrap, x)) if hasattr(x, "_fields") else type(x)(map(wrap, x))
    return x


def _unwrap(x, where):
    if isinstance(x, ndarray):
        return x._inside
    if isinstance(x, np.ndarray):
        raise TypeError(f"cupy: {where} of an array on the GPU and one of NumPy, {x.dtype}{x.shape}")
    if isinstance(x, (tuple, list)):
        return type(x)(_unwrap(part, where) for part in x)
    return x


def _unwrap_key(key):
    keys = key if isinstance(key, tuple) else (key,)
    for k in keys:
        if isinstance(k, ndarray) and k.dtype == bool:
            _refuse_in_capture("a mask as an index")
        if not (k is None or k is Ellipsis or isinstance(k, (int, slice, ndarray, np.integer, list, range))):
            raise TypeError(f"cupy: an index is {type(k)}: it would be uploaded at each use")
        if isinstance(k, (list, range)):
            _transfers.note("uploads", f"an index of {len(k)} numbers")
    keys = tuple(k._inside if isinstance(k, ndarray) else list(k) if isinstance(k, range) else k for k in keys)
    return keys if isinstance(key, tuple) else keys[0]


def _method(name):
    function = getattr(np.ndarray, name)

    def method(self, *args, **kwargs):
        args, kwargs = [_unwrap(a, name) for a in args], {k: _unwrap(a, name) for k, a in kwargs.items()}
        if name == "fill":
            return _in_place(function, self._inside, *args)
        return _made(name, function, [self._inside, *args], kwargs)

    return method


def _operator(name):
    function = getattr(operator, f"{name}_" if name in ("and", "or") else name)

    def apply(a, b):
        if not isinstance(b, (ndarray, *NUMBERS)):
            if isinstance(b, np.ndarray):
                raise TypeError(f"cupy: {name} of an array on the GPU and one of NumPy, {b.dtype}{b.shape}")
            return NotImplemented
        return _made(name, function, [a._inside, _unwrap(b, name)])

    def reflected(a, b):
        return _made(name, function, [b, a._inside]) if isinstance(b, NUMBERS) else NotImplemented

    def in_place(a, b):
        _in_place(getattr(operator, f"i{name}"), a._inside, _unwrap(b, name))
        return a

    setattr(ndarray, f"__{name}__", apply)
    if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


for _name in METHODS:
    setattr(ndarray, _name, _method(_name))
for _name in OPERATORS:
    _operator(_name)
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", lambda self, _name=_name: _made(_name, getattr(operator, _name), [self._inside]))
ndarray.__module__ = "cupy"


def _function(library, name):
    function = getattr(library, name)

    def run(*args, **kwargs):
        args, kwargs = [_unwrap(a, name) for a in args], {k: _unwrap(a, name) for k, a in kwargs.items()}
        y = _made(name, function, args, kwargs)
        if _capture and name in ("concatenate", "stack") and len(args[0]) > UPLOADED:
            _pinned_memory("a table of arrays")
            _capture.done.append(lambda: _spoil(y._inside))
        return y

    return run


def _asarray(x, dtype=None, copy=None):
    if isinstance(x, ndarray):
        return _made("asarray", np.asarray, [x._inside, dtype])
    y = np.array(x, dtype)
    if y.ndim or not _capture:  # one number is an argument of the kernel that writes it
        _transfers.note("uploads", f"{type(x).__name__}{np.shape(x)}")
    if _capture:
        number = y.copy()
        _capture.remember([y])
        _capture.done.append(lambda: _spoil(y) if y.ndim else y.fill(number))
    elif _pool:
        _pool.malloc(y.nbytes)
    return ndarray(y)


class _Ogrid:
    def __getitem__(self, key):
        return _made("ogrid", lambda: list(np.ogrid[key]))


def _library():
    cupy = types.ModuleType("cupy")
    for name in FUNCTIONS:
        setattr(cupy, name, _function(np, name))
    cupy.ndarray, cupy.asarray, cupy.array, cupy.asnumpy, cupy.ogrid = ndarray, _asarray, _asarray, lambda x: x.get(), _Ogrid()
    cupy.result_type = lambda *args: np.result_type(*(a._inside if isinstance(a, ndarray) else a for a in args))
    cupy.ascontiguousarray = lambda x, dtype=None: _made("ascontiguousarray", np.ascontiguousarray, [x._inside, dtype])
    cupy.linalg = SimpleNamespace(**{name: _function(np.linalg, name) for name in LINEAR_ALGEBRA})
    cupy.cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError),
        Device=lambda: SimpleNamespace(compute_capability="80"),
        Stream=Stream, get_current_stream=lambda: _streams[-1], MemoryPool=MemoryPool, using_allocator=_using_allocator,
        set_pinned_memory_allocator=_set_pinned_memory_allocator,
    )  # fmt: skip
    cupy.get_default_pinned_memory_pool = lambda: SimpleNamespace(malloc=_nothing_said)
    cupy.is_available, cupy.__file__ = lambda: True, __file__
    return cupy


def _scatter_add(x, key, values):
    _in_place(np.add.at, x._inside, _unwrap_key(key), _unwrap(values, "scatter_add"))


# Streams, graphs and memory


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


class Stream:
    """Work is done at once, whatever the stream; but one can capture it."""

    def __init__(self, non_blocking=False):
        self.non_blocking = non_blocking

    def __enter__(self):
        _streams.append(self)
        return self

    def __exit__(self, *_):
        assert _streams.pop() is self

    def synchronize(self):
        _refuse_in_capture("waiting for a stream")

    def begin_capture(self):
        global _capture
        if self is Stream.null or not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream, nor on one that waits for it")
        _capture = Capture()

    def end_capture(self):
        global _capture
        capture, _capture = _capture, None
        capture.forget()
        if capture.spoilt:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture")
        return capture


Stream.null = Stream()
_streams, _capture, _pool = [Stream.null], None, None  # _pool: where memory is taken from; None for what all share


class Capture:
    """What was done during a capture, to be done again; the graph that comes of it."""

    def __init__(self):
        self.done, self.made, self.before, self.spoilt, self.bytes = [], [], [], False, 0

    def function(self, function, args, kwargs, results, new):
        """A function that made these results: new arrays, or parts of its arguments, which will be parts of them again."""
        self.remember([y for y, is_new in zip(results, new) if is_new])
        if any(new):

            def again():
                for y, is_new, value in zip(results, new, _arrays_within(function(*args, **kwargs))):
                    if is_new:
                        y[...] = value

            self.done.append(again)

    def effect(self, again, touched):
        """What may have written to the touched arrays; call this before it does."""
        self.before += [(a, a.copy()) for a in touched if a.flags.writeable]
        self.done.append(again)

    def remember(self, arrays):
        """New arrays, and the memory that they took."""
        self.made += arrays
        self.bytes += sum(a.nbytes for a in arrays)
        if self.bytes and _pool is None:
            raise CUDARuntimeError("memory that the graph does not own was taken, and will be given to others between launches")
        if self.bytes and self.bytes > _pool.most:
            raise CUDARuntimeError("the pool had not given out as much before: cudaMalloc would be called")

    def forget(self):
        """Everything is as if nothing had been done."""
        for a, numbers in reversed(self.before):
            a[...] = numbers
        for a in self.made:
            if a.flags.writeable:
                _spoil(a)

    def launch(self, stream=None):
        """Do it all again."""
        assert _capture is None and not self.spoilt
        with np.errstate(all="ignore"):
            for again in self.done:
                again()


class MemoryPool:
    """Counts what it gives out; `most` in one `using_allocator`."""

    def __init__(self):
        self.given = self.most = 0

    def malloc(self, size):
        self.given += size
        self.most = max(self.most, self.given)


@contextmanager
def _using_allocator(allocator):
    global _pool
    before, _pool = _pool, allocator.__self__
    try:
        yield
    finally:
        _pool = before


def _nothing_said(size):
    pass


_pinned_memory = _nothing_said  # where numbers lie on their way to the GPU


def _set_pinned_memory_allocator(allocator):
    global _pinned_memory
    _pinned_memory = allocator


def _spoil(a):
    a.fill(np.nan if a.dtype.kind in "fc" else 1)


def _made(name, function, args=(), kwargs=None):
    """function(*args, **kwargs) of NumPy's arrays, wrapped."""
    if _capture and name in LIBRARIES:
        raise NotImplementedError(f"calling cuBLAS or cuSOLVER ({name}) is not supported while a stream is capturing")
    if name in WAITING:
        _refuse_in_capture(name)
    kwargs = kwargs or {}
    if kwargs.get("out") is not None:
        _in_place(lambda out: function(*args, **kwargs), kwargs["out"])
        return wrap(kwargs["out"])
    y = _as_arrays(function(*args, **kwargs))
    if _pool or _capture:
        results, inputs = _arrays_within(y), _arrays_within((args, kwargs))
        new = [not any(np.may_share_memory(result, a) for a in inputs) for result in results]
        if _capture:
            _capture.function(lambda *a, **k: _as_arrays(function(*a, **k)), args, kwargs, results, new)
        else:
            _pool.malloc(sum(a.nbytes for a, is_new in zip(results, new) if is_new))
    return wrap(y)


def _in_place(function, x, *args):
    if _capture:
        _capture.effect(lambda: function(x, *args), [x])
    function(x, *args)


def _refuse_in_capture(what):
    if _capture:
        _capture.spoilt = True
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing: {what}")


def _as_arrays(y):
    if isinstance(y, (tuple, list)):
        return type(y)(*map(_as_arrays, y)) if hasattr(y, "_fields") else type(y)(map(_as_arrays, y))
    return np.asarray(y) if isinstance(y, np.generic) else y


def _arrays_within(x):
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        return [a for part in x for a in _arrays_within(part)]
    return [x] if isinstance(x, np.ndarray) else []


def _owner(x):
    return x if x.base is None else _owner(x.base)


class Device(Harness):
    """The harness, for the arrays that pretend."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    capability = 80

    def empty(self, shape, dtype):
        return _made("empty", super().empty, [shape, dtype])

    def launch(self, program, kernel, grid, block, args, shared, defines):
        args = tuple(a._inside if isinstance(a, ndarray) else a for a in args)
        run = super().launch
        if _capture:
            _capture.effect(lambda: run(program, kernel, grid, block, args, shared, defines), _arrays_within(args))
        run(program, kernel, grid, block, args, shared, defines)


@contextmanager
def gpu():
    """Within: `import cupy` gives the module whose arrays pretend, and kernels run in the harness. Yields the `Transfers`."""
    global _transfers
    cupy, cupyx = _library(), types.ModuleType("cupyx")
    cupyx.scatter_add = _scatter_add
    before = {name: sys.modules.get(name) for name in ("cupy", "cupyx")}
    sys.modules.update(cupy=cupy, cupyx=cupyx)
    _transfers = Transfers()
    try:
        with cuda.launching_by(Device(cupy)):
            yield _transfers
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

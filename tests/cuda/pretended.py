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
"""

import operator
import sys
import traceback
import types
from contextlib import contextmanager
from pathlib import Path

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
NUMBERS = (bool, int, float, complex, np.generic)


class Transfers:
    """What passed between the devices: lists of descriptions."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.uploads, self.downloads, self.reads = [], [], []

    def note(self, kind, what):
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

    def __len__(self):
        return len(self._inside)

    def __iter__(self):
        return (wrap(row) for row in self._inside)

    def __repr__(self):
        return f"pretended {self.dtype}{self.shape}"

    def __getitem__(self, key):
        return wrap(self._inside[_unwrap_key(key)])

    def __setitem__(self, key, value):
        self._inside[_unwrap_key(key)] = _unwrap(value, "assignment")

    def get(self):
        _transfers.note("downloads", repr(self))
        return self._inside.copy()

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        """NumPy's number * array comes here, and is ours; a function of NumPy's own is refused."""
        if method == "__call__" and not kwargs and any(isinstance(a, np.generic) for a in inputs):
            return wrap(ufunc(*(_unwrap(a, ufunc.__name__) for a in inputs)))
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
        if not (k is None or k is Ellipsis or isinstance(k, (int, slice, ndarray, np.integer, list, range))):
            raise TypeError(f"cupy: an index is {type(k)}: it would be uploaded at each use")
        if isinstance(k, (list, range)):
            _transfers.note("uploads", f"an index of {len(k)} numbers")
    keys = tuple(k._inside if isinstance(k, ndarray) else list(k) if isinstance(k, range) else k for k in keys)
    return keys if isinstance(key, tuple) else keys[0]


def _method(name):
    def method(self, *args, **kwargs):
        args = [_unwrap(a, name) for a in args]
        return wrap(getattr(self._inside, name)(*args, **{k: _unwrap(a, name) for k, a in kwargs.items()}))

    return method


def _operator(name):
    function = getattr(operator, f"{name}_" if name in ("and", "or") else name)

    def apply(a, b):
        if not isinstance(b, (ndarray, *NUMBERS)):
            if isinstance(b, np.ndarray):
                raise TypeError(f"cupy: {name} of an array on the GPU and one of NumPy, {b.dtype}{b.shape}")
            return NotImplemented
        return wrap(function(a._inside, _unwrap(b, name)))

    def reflected(a, b):
        return wrap(function(b, a._inside)) if isinstance(b, NUMBERS) else NotImplemented

    def in_place(a, b):
        a._inside = getattr(operator, f"i{name}")(a._inside, _unwrap(b, name))
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
    setattr(ndarray, f"__{_name}__", lambda self, _name=_name: wrap(getattr(operator, _name)(self._inside)))
ndarray.__module__ = "cupy"


def _function(library, name):
    function = getattr(library, name)

    def run(*args, **kwargs):
        args = [_unwrap(a, name) for a in args]
        return wrap(function(*args, **{k: _unwrap(a, name) for k, a in kwargs.items()}))

    return run


def _asarray(x, dtype=None, copy=None):
    if isinstance(x, ndarray):
        return ndarray(np.asarray(x._inside, dtype))
    _transfers.note("uploads", f"{type(x).__name__}{np.shape(x)}")
    return ndarray(np.array(x, dtype))


class _Ogrid:
    def __getitem__(self, key):
        return wrap(list(np.ogrid[key]))


def _library():
    cupy = types.ModuleType("cupy")
    for name in FUNCTIONS:
        setattr(cupy, name, _function(np, name))
    cupy.ndarray, cupy.asarray, cupy.array, cupy.asnumpy, cupy.ogrid = ndarray, _asarray, _asarray, lambda x: x.get(), _Ogrid()
    cupy.result_type = lambda *args: np.result_type(*(a._inside if isinstance(a, ndarray) else a for a in args))
    cupy.ascontiguousarray = lambda x, dtype=None: ndarray(np.ascontiguousarray(x._inside, dtype))
    cupy.linalg = types.SimpleNamespace(
        **{name: _function(np.linalg, name) for name in ("inv", "solve", "slogdet", "cholesky", "norm", "qr", "eigh")}
    )
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}))
    cupy.cuda = types.SimpleNamespace(runtime=runtime, Device=lambda: types.SimpleNamespace(compute_capability="80"))
    cupy.is_available = lambda: True
    return cupy


def _scatter_add(x, key, values):
    np.add.at(x._inside, _unwrap_key(key), _unwrap(values, "scatter_add"))


class Device(Harness):
    """The harness, for the arrays that pretend."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def empty(self, shape, dtype):
        return ndarray(super().empty(shape, dtype))

    def launch(self, program, kernel, grid, block, args, shared, defines):
        args = tuple(a._inside if isinstance(a, ndarray) else a for a in args)
        super().launch(program, kernel, grid, block, args, shared, defines)


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

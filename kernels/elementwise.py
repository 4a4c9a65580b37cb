"""The grid of a kernel on a GPU that treats every element of an array by itself (FOR_EACH in device.cuh)."""

THREADS = 256  # in a block: eight warps, so that some can compute while others wait for memory
BLOCKS = 1 << 14  # at most: four million threads, more than any GPU runs at once; in larger arrays each does several elements


def grid(size):
    """(grid, block) for so many elements."""
    return (min(-(-size // THREADS), BLOCKS),), (THREADS,)

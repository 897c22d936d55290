"""How many bits the positions of the kept entries need at least: log2 C(n, k) for each tile."""

from collections import Counter
from math import lgamma, log, prod

from codec_bench.cases import TILE_SIDE, Shapes
from codec_bench.schemes import K

TILE_ENTRIES = TILE_SIDE**2


def tile_areas(shapes: Shapes) -> Counter[int]:
    """Return how many tiles of each area a shard has: padded squares, vectors joined to one."""
    areas: Counter[int] = Counter()
    stream = sum(prod(shape) for shape in shapes if len(shape) < 2)
    areas.update(_parts(stream, TILE_ENTRIES))
    for shape in shapes:
        if len(shape) >= 2:
            widths = Counter(_parts(shape[-1], TILE_SIDE))
            for height, rows in Counter(_parts(prod(shape[:-1]), TILE_SIDE)).items():
                areas.update({height * width: rows * n for width, n in widths.items()})
    return areas


def kept(area: int, k: int = K) -> int:
    """Return the entries kept of a tile."""
    return max(1, round(k * area / TILE_ENTRIES))


def bits_per_index(area: int, keep: int) -> float:
    """Return log2 C(area, keep) / keep."""
    return (lgamma(area + 1) - lgamma(keep + 1) - lgamma(area - keep + 1)) / log(2) / keep


def shard_limit(shapes: Shapes) -> float:
    """Return the limit in bits per index over all tiles of a shard."""
    areas = tile_areas(shapes).items()
    bits = sum(n * kept(area) * bits_per_index(area, kept(area)) for area, n in areas)
    return bits / sum(n * kept(area) for area, n in areas)


def _parts(size: int, part: int) -> list[int]:
    return [part] * (size // part) + ([size % part] if size % part else [])

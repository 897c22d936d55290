"""The order in which a step's microbatches take the planned paths, as rings draw it at run time."""

from functools import lru_cache

from skerry.protocol.rings.routes import PathRouter


@lru_cache(4096)
def drawn_order(quotas: tuple[int, ...]) -> tuple[int, ...]:
    """Return the paths of all microbatches of one inner step.

    Raises: ValueError without a positive quota, or with a negative one.
    """
    if not quotas or min(quotas) < 0 or sum(quotas) == 0:
        raise ValueError(f"quotas are {list(quotas)}, need some above 0 and none below")
    router, paths = PathRouter(quotas), range(len(quotas))
    return tuple(router.draw(paths) for _ in range(sum(quotas)))

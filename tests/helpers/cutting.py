"""Searches and populations that stop as if they had been killed."""


class Cut(Exception):
    """Raised where a run is to end."""


def cut_after(number):
    """A progress callback that lets `number` reports pass and ends the run at the next."""
    count = iter(range(number))

    def progress(_):
        if next(count, None) is None:
            raise Cut

    return progress

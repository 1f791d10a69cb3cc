"""The one error whose bases come from multiprocessing, which `import coterie` shall not load."""

from __future__ import annotations

import multiprocessing

from coterie.exceptions import TaskError


class TaskTimeoutError(TaskError, multiprocessing.TimeoutError, TimeoutError):
    """An item ran longer than `task_timeout` allows. Its worker was ended and replaced; what it had done is unknown.

    Attributes
    ----------
    index : int
        Which item.

    Examples
    --------
    >>> import time
    >>> import coterie
    >>> with coterie.Pool(1, task_timeout=0.1) as pool:
    ...     try:
    ...         pool.map(time.sleep, [0, 60])
    ...     except TimeoutError as error:
    ...         print(type(error).__name__, error.index)
    TaskTimeoutError 1
    """


TaskTimeoutError.__module__ = "coterie.exceptions"

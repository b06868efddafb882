import threading
import time
from concurrent.futures import ThreadPoolExecutor

from anogan_tf import threads


def seen(n, seconds):
    """What `mapped` finds of n numbers that take so long each, and the threads that asked."""
    asked = []

    def doubled(number):
        asked.append(threading.current_thread())
        time.sleep(seconds)
        return 2 * number

    with ThreadPoolExecutor(4) as pool:
        return threads.mapped(doubled, range(n), pool), asked


def test_long_work_is_done_by_threads():
    found, asked = seen(12, 0.01)
    assert found == [2 * number for number in range(12)]
    assert len(set(asked[threads.TRIED :])) > 1


def test_short_work_is_done_one_after_the_other():
    found, asked = seen(1000, 0.0)
    assert found == [2 * number for number in range(1000)]
    assert set(asked) == {threading.current_thread()}


def test_nothing_and_little():
    assert [seen(n, 0.0)[0] for n in range(4)] == [[], [0], [0, 2], [0, 2, 4]]

from skerry.protocol.rings.frames import Place
from skerry.protocol.rings.tasks import Kind, Task, TaskQueue

NOW, LATER = (1, 0), (1, 1)


def task(kind: Kind, microbatch: int = 0, at=NOW) -> Task:
    return Task(kind, at, Place(microbatch, 1, 1), (1,))


def drain(queue: TaskQueue, until=LATER) -> list[Task]:
    found = []
    while (taken := queue.take(until)) is not None:
        found.append(taken[0])
    return found


def test_backward_before_forward_before_weights_and_first_come_first_served():
    queue = TaskQueue()
    tasks = [
        task(Kind.WEIGHT_GRADIENT, 0),
        task(Kind.FORWARD, 2),
        task(Kind.FORWARD, 1),
        task(Kind.INPUT_GRADIENT, 3),
        task(Kind.LOSS, 4),
    ]
    for number, one in enumerate(tasks):
        queue.put(one, float(number))
    assert drain(queue) == [tasks[4], tasks[3], tasks[1], tasks[2], tasks[0]]


def test_an_older_step_goes_first_and_a_later_one_waits():
    queue = TaskQueue()
    queue.put(task(Kind.LOSS, at=LATER), 0.0)
    queue.put(task(Kind.WEIGHT_GRADIENT, at=NOW), 0.0)
    assert drain(queue, NOW) == [task(Kind.WEIGHT_GRADIENT, at=NOW)]
    assert (queue.holds(NOW), queue.holds(LATER)) == (False, True)
    assert drain(queue) == [task(Kind.LOSS, at=LATER)]


def test_the_tasks_of_a_visit_can_be_dropped():
    queue = TaskQueue()
    queue.put(task(Kind.FORWARD, 1), 0.0)
    queue.put(task(Kind.FORWARD, 2), 0.0)
    queue.drop(NOW, Place(1, 1, 1))
    assert drain(queue) == [task(Kind.FORWARD, 2)]

"""Which connection gives way when there are too many, or when they buffer too much."""

from shared.runtime.http_room import LEAST_CONNECTIONS, Room

MOST = LEAST_CONNECTIONS


class Recorded:
    """A connection that buffers *size* bytes until it is given up."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        self.lingers: bool | None = None
        """None: it is not given up."""

    def buffered(self) -> int:
        return self.size

    def give_up(self, *, linger: bool) -> None:
        self.size = 0
        self.lingers = linger


def entered(room: Room, *sizes: int) -> list[Recorded]:
    connections = [Recorded(each) for each in sizes]
    for each in connections:
        room.enter(each)
    return connections


def test_the_one_that_waits_for_its_client_for_longest_gives_way() -> None:
    room = Room(connections=MOST)
    served, first, *others = entered(room, *[0] * MOST)
    room.wait_for_server(served)
    for each in (*others, first):
        room.wait_for_client(each)  # as they do already: a trickle of bytes gains nothing
    [new] = entered(room, 0)
    assert first.lingers is False
    assert [each.lingers for each in (served, *others, new)] == [None] * MOST
    room.wait_for_client(served)
    entered(room, *[0] * (MOST - 1))
    assert served.lingers is None, "it waits for its client for less long than all before it"
    entered(room, 0)
    entered(room, 0)
    assert served.lingers is False


def test_where_all_are_served_the_new_one_gives_way() -> None:
    room = Room(connections=MOST)
    for each in entered(room, *[0] * MOST):
        room.wait_for_server(each)
    [new] = entered(room, 0)
    assert new.lingers is False


def test_of_too_many_bytes_the_largest_connections_give_way() -> None:
    room = Room(buffered_bytes=1000)
    small, large, larger = entered(room, 10, 400, 600)
    room.grow(990)
    assert (small.lingers, large.lingers, larger.lingers) == (None, None, None)
    room.grow(20)
    assert (small.lingers, large.lingers, larger.lingers) == (None, None, True)
    assert small.size + large.size == 410


def test_what_only_passes_through_closes_nothing() -> None:
    room = Room(buffered_bytes=1000)
    connections = entered(room, 100, 800)
    for _ in range(1000):
        room.grow(1000)
    assert [each.lingers for each in connections] == [None, None]


def test_processes_share_what_is_allowed() -> None:
    alone, one_of_two = Room(400, 1000), Room(400, 1000, processes=2)
    assert (alone.most, one_of_two.most) == (400, 200)
    assert (alone.most_bytes, one_of_two.most_bytes) == (1000, 500)

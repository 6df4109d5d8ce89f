import uuid
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from rat_resources import wishes
from rat_resources.metadata import Metadata
from rat_resources.metadata.automation import Wish, WishState
from rat_resources.names import TableName
from rat_resources.wishes import DueWish, Node, Plan
from tests.rat_resources.rows import make_pipeline, make_run


def table(name: str) -> TableName:
    return TableName("shop", "silver", name)


def node(name: str, *upstream: str, eager: bool = True) -> Node:
    above = frozenset(table(each) for each in upstream)
    return Node(pipeline(name), table(name), above, eager=eager)


def pipeline(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, name)


def wished(name: str, label: str = "auto", *, attempts: int = 0) -> DueWish:
    return DueWish(uuid.uuid4(), pipeline(name), label, attempts)


def runs(plan: Plan) -> list[list[str]]:
    return [[each.name for each in ask.selection] for ask in plan.asks]


GRAPH = [
    node("a"),
    node("b", "a"),
    node("c", "b"),
    node("late", "b", eager=False),
    node("x"),
    node("y", "x"),
    node("both", "c", "y"),
    node("alone"),
]


def test_a_run_is_a_pipeline_and_all_that_follows_it() -> None:
    plan = wishes.plan([wished("b")], graph=GRAPH, active=())

    assert runs(plan) == [["b", "both", "c"]]


def test_what_shares_a_follower_shares_a_run_and_the_rest_has_its_own() -> None:
    due = [wished("a"), wished("alone"), wished("x")]

    plan = wishes.plan(due, graph=GRAPH, active=())

    assert runs(plan) == [["a", "b", "both", "c", "x", "y"], ["alone"]]


def test_a_pipeline_that_was_wished_for_runs_after_its_upstream_in_one_run() -> None:
    plan = wishes.plan([wished("late"), wished("b")], graph=GRAPH, active=())

    assert runs(plan) == [["b", "both", "c", "late"]]


def test_wishes_of_one_pipeline_collapse_and_an_event_names_the_run() -> None:
    due = [wished("alone"), wished("alone", "schedule:0 * * * *"), wished("alone")]

    (ask,) = wishes.plan(due, graph=GRAPH, active=()).asks

    assert ask.label == "schedule:0 * * * *"
    assert ask.wish_ids == tuple(each.id for each in due)
    assert ask.run_key.startswith("schedule:0 * * * *:")


def test_nothing_is_asked_for_while_one_of_its_pipelines_is_active() -> None:
    due = [wished("a"), wished("alone")]

    plan = wishes.plan(due, graph=GRAPH, active={pipeline("both")})

    assert runs(plan) == [["alone"]]
    assert [one.why for one in plan.held] == ["shop.silver.both is running"]


def test_a_wish_that_came_back_runs_without_what_stopped_it() -> None:
    due = [wished("x"), wished("both", attempts=1)]

    plan = wishes.plan(due, graph=GRAPH, active=())

    assert runs(plan) == [["both"]]
    assert [one.why for one in plan.held] == ["shop.silver.both is running"]


def test_a_wish_that_came_back_is_asked_for_under_a_new_key() -> None:
    once = wished("alone")
    again = DueWish(once.id, once.pipeline_id, once.label, 1)

    keys = [
        wishes.plan([wish], graph=GRAPH, active=()).asks[0].run_key
        for wish in (once, once, again)
    ]

    assert keys[0] == keys[1] != keys[2]


def test_a_wish_for_an_unpublished_pipeline_asks_for_nothing() -> None:
    assert wishes.plan([wished("nobody")], graph=GRAPH, active=()) == Plan()


def state_of(tx: Session) -> list[str]:
    return list(tx.scalars(select(Wish.state).order_by(Wish.created_at, Wish.reason)))


def test_the_same_reason_wishes_once(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        first = wishes.wish(tx, pipeline_id, label="auto", reason="a@1")
        second = wishes.wish(tx, pipeline_id, label="auto", reason="a@1")

    assert first is not None
    assert second is None


def test_a_run_takes_every_wish_and_its_end_closes_them(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        graph = [Node(pipeline_id, table("a"))]
        wishes.wish(tx, pipeline_id, label="auto", reason="1")
        (ask,) = wishes.plan(wishes.due(tx), graph=graph, active=()).asks
        assert wishes.request(tx, ask)
        assert not wishes.request(tx, ask)
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        wishes.wish(tx, pipeline_id, label="auto", reason="2", due_at=tomorrow)
        run_id = make_run(tx, pipeline_id)

        taken = wishes.take(tx, pipeline_id, run_id=run_id, dagster_run_id="d")
        wishes.finish(tx, run_id)

        assert len(taken) == 2
        assert state_of(tx) == [WishState.DONE, WishState.DONE]


def test_a_wish_whose_runs_die_is_given_up_at_the_third(metadata: Metadata) -> None:
    states = []
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        wishes.wish(tx, pipeline_id, label="auto", reason="1")
        for _ in range(3):
            run_id = make_run(tx, pipeline_id)
            wishes.take(tx, pipeline_id, run_id=run_id, dagster_run_id="d")
            wishes.give_back(tx, run_id)
            tx.expire_all()
            states += state_of(tx)

    assert states == [WishState.WAITING, WishState.WAITING, WishState.DONE]


def test_a_wish_that_its_run_never_came_to_waits_again_and_then_pauses(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        graph = [Node(pipeline_id, table("a"))]
        wishes.wish(tx, pipeline_id, label="auto", reason="1")
        due = []
        for _ in range(3):
            found = wishes.due(tx)
            due.append(len(found))
            for ask in wishes.plan(found, graph=graph, active=()).asks:
                wishes.request(tx, ask)
                wishes.return_unstarted(tx, ask.run_key)
            tx.expire_all()

    assert due == [1, 1, 0]


def test_a_request_that_dagster_never_got_is_overdue_after_the_grace(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        pipeline_id = make_pipeline(tx)
        wishes.wish(tx, pipeline_id, label="auto", reason="1")
        graph = [Node(pipeline_id, table("a"))]
        (ask,) = wishes.plan(wishes.due(tx), graph=graph, active=()).asks
        wishes.request(tx, ask)
        fresh = wishes.asked(tx)
        long_ago = func.now() - timedelta(hours=1)
        tx.execute(update(Wish).values(requested_at=long_ago))
        old = wishes.asked(tx)

    assert [(one.run_key, one.is_overdue) for one in fresh] == [(ask.run_key, False)]
    assert [one.is_overdue for one in old] == [True]


def test_an_invalidation_is_for_a_run_of_one_pipeline_alone() -> None:
    due = [
        wished("a", "invalidation:1"),
        wished("a", "invalidation:2"),
        wished("y", "invalidation:1"),
    ]

    plan = wishes.plan(due, graph=GRAPH, active=())

    assert runs(plan) == [["a"], ["y"]]
    assert [ask.label for ask in plan.asks] == ["invalidation:1", "invalidation:1"]
    assert [len(ask.wish_ids) for ask in plan.asks] == [2, 1]


def test_what_is_below_something_wrong_waits_until_that_is_right() -> None:
    due = [wished("late", "invalidation:1"), wished("both", "invalidation:1")]

    plan = wishes.plan(due, graph=GRAPH, active=(), correcting={pipeline("b")})

    assert runs(plan) == []
    assert [each.why for each in plan.held] == [
        "what shop.silver.late reads is corrected first",
        "what shop.silver.both reads is corrected first",
    ]


def test_news_and_invalidations_of_one_pipeline_are_two_runs() -> None:
    due = [wished("alone"), wished("alone", "invalidation:1")]

    plan = wishes.plan(due, graph=GRAPH, active=())

    assert runs(plan) == [["alone"]]
    assert plan.asks[0].label == "auto"
    assert [each.why for each in plan.held] == ["shop.silver.alone is running"]


def test_a_run_takes_the_wishes_of_its_kind(metadata: Metadata) -> None:
    with metadata.transaction() as tx:
        orders = wished_twice(tx)
        first, second = make_run(tx, orders), make_run(tx, orders)

        news = wishes.take(
            tx, orders, run_id=first, dagster_run_id=None, takes="all if it must"
        )
        wrong = wishes.take(
            tx, orders, run_id=second, dagster_run_id=None, takes="invalidations"
        )

    assert [each.label for each in news] == ["auto"]
    assert [each.label for each in wrong] == ["invalidation:x"]


def test_what_an_invalidation_asks_for_is_held_when_its_run_fails(
    metadata: Metadata,
) -> None:
    with metadata.transaction() as tx:
        orders = wished_twice(tx)
        failed, next_one = make_run(tx, orders), make_run(tx, orders)
        wishes.take(tx, orders, run_id=failed, dagster_run_id="d")

        wishes.finish(tx, failed, failed=True)

        assert wishes.due(tx) == []
        taken = wishes.take(tx, orders, run_id=next_one, dagster_run_id="e")
        assert [each.label for each in taken] == ["invalidation:x"]


def wished_twice(tx: Session) -> uuid.UUID:
    """A pipeline with news, and with an invalidation of what it reads."""
    orders = make_pipeline(tx)
    for label, reason in (("auto", "1"), ("invalidation:x", "2")):
        wishes.wish(tx, orders, label=label, reason=reason)
    return orders

"""Linear sum assignment inside a jitted program: Hungarian matching of queries and classes (mmdet's HungarianAssigner)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


def assign(cost: jax.Array, present: jax.Array) -> jax.Array:
    """Query of each class, int32 [K]: the cheapest one-to-one choice for the classes that are present.

    cost [Q, K] finite; present bool [K]. What stands for no query is Q or more: that of absent classes, and, where more classes are
    present than there are queries, that of those which get none.
    """
    queries, classes = cost.shape
    lacking = max(classes - queries, 0)  # queries that stand for none, dearer than any other
    cost = jnp.concatenate([cost, jnp.full((lacking, classes), jnp.max(jnp.where(present, cost, 0.0)) + 1.0, cost.dtype)])
    found = linear_sum_assignment(cost.T, present)
    return jnp.where(found < 0, queries, found)


class _Search(NamedTuple):
    """The state of `linear_sum_assignment`: K rows and Q columns, their prices, who has whom, and the path that is being looked for."""

    row: jax.Array  # the row that is to get a column; K at the end
    look: jax.Array  # the row whose costs are read next; -1 while columns change hands along the path
    base: jax.Array  # its distance from `row`
    distance: jax.Array  # [Q] of each column from `row`
    before: jax.Array  # [Q] the row through which it is reached
    done: jax.Array  # [Q] whether that distance is final
    reached: jax.Array  # [K] distance at which a row's costs were read; infinite if they were not
    column: jax.Array  # the column that was reached last
    of_row: jax.Array  # [K] prices
    of_column: jax.Array  # [Q]
    owner: jax.Array  # [Q] row of each column, or -1
    got: jax.Array  # [K] column of each row, or -1


def linear_sum_assignment(cost: jax.Array, wanted: jax.Array, unroll: int = 2) -> jax.Array:
    """Cheapest one-to-one choice of a column for each wanted row: int32 [K], -1 for the others.

    cost [K, Q] finite, at least as many columns as wanted rows; wanted bool [K]. Successive shortest augmenting paths with prices
    (Jonker and Volgenant 1987). One loop does both the search and the change of hands, a row or a column a turn (`unroll` turns before
    its end is looked at), so that problems under `vmap` do not wait for one another: optax's has two loops within one, which takes a
    GPU, where the host decides about each turn, twice as long (`docs/speed.md`).
    """
    rows, columns = cost.shape
    row_ids = jnp.arange(rows)
    following = lambda row: jnp.min(jnp.where(wanted & (row_ids > row), row_ids, rows)).astype(jnp.int32)
    column_ids, none, zeros = jnp.arange(columns), lambda n: jnp.full(n, -1, jnp.int32), lambda *n: jnp.zeros(n, cost.dtype)
    far = lambda n: jnp.full(n, jnp.inf, cost.dtype)
    nothing = (far(columns), none(columns), jnp.zeros(columns, bool), far(rows))

    def search(s: _Search) -> _Search:
        reached = jnp.where(row_ids == s.look, s.base, s.reached)
        through = s.base + cost[s.look] - s.of_row[s.look] - s.of_column
        nearer = (through < s.distance) & ~s.done
        distance, before = jnp.where(nearer, through, s.distance), jnp.where(nearer, s.look, s.before)
        left = jnp.where(s.done, jnp.inf, distance)
        column = jnp.argmin(left).astype(jnp.int32)
        done, end, look = s.done | (column_ids == column), left[column], s.owner[column]
        ends = look < 0  # nobody has it: the path is found, and prices follow
        of_row = jnp.where(ends & (reached < jnp.inf), s.of_row + end - reached, s.of_row)
        of_column = jnp.where(ends & done, s.of_column + distance - end, s.of_column)
        return s._replace(look=look, base=end, distance=distance, before=before, done=done, reached=reached, column=column,
                          of_row=of_row, of_column=of_column)

    def hand_over(s: _Search) -> _Search:
        row = s.before[s.column]
        begin = following(s.row)
        ends = row == s.row
        fresh = [jnp.where(ends, new, old) for new, old in zip(nothing, (s.distance, s.before, s.done, s.reached), strict=True)]
        return _Search(jnp.where(ends, begin, s.row), jnp.where(ends, begin, -1), jnp.where(ends, 0.0, s.base), *fresh, s.got[row],
                       s.of_row, s.of_column, jnp.where(column_ids == s.column, row, s.owner), jnp.where(row_ids == row, s.column, s.got))

    def turn(s: _Search) -> _Search:
        pick = lambda which, new, old: jax.tree.map(lambda a, b: jnp.where(which, a, b), new, old)
        return pick(s.row < rows, pick(s.look >= 0, search(s), hand_over(s)), s)

    def turns(s: _Search) -> _Search:
        for _ in range(unroll):
            s = turn(s)
        return s

    first = following(-1)
    start = _Search(first, first, zeros(), *nothing, jnp.int32(0), zeros(rows), zeros(columns), none(columns), none(rows))
    return jax.lax.while_loop(lambda s: s.row < rows, turns, start).got

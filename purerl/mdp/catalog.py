"""Textbook MDPs: random walks, the gambler's problem, Jack's car rental, and random ones."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from purerl.mdp.convert import from_dense
from purerl.mdp.types import MDP, check, check_scalar, checked


def random_walk(num_states: int = 19, left_reward: float = -1.0, right_reward: float = 1.0, max_jump: int = 1) -> MDP:
    """A random walk on a line that ends beyond either side: a Markov chain with one action.

    Each step jumps 1 to `max_jump` cells to either side, each of the 2 `max_jump` jumps with the same probability.
    Leaving on the left pays `left_reward`, on the right `right_reward`. Episodes start in the middle.

    Args:
      num_states: S, at least 1.
      left_reward, right_reward: paid at the end.
      max_jump: longest jump, at least 1.

    Returns:
      `MDP` with outcome lists [S, 1, 2 max_jump].

    Source: Sutton & Barto (2018): example 6.2 is (5, 0, 1), example 7.1 is (19, -1, 1), example 9.1 is
    (1000, -1, 1, 100).

    Examples:
      >>> from purerl import mdp
      >>> walk = mdp.random_walk(num_states=5, left_reward=0.0)
      >>> value = mdp.policy_evaluation(walk, policy=[[1.0]] * 5, discount=1.0)
      >>> [round(v, 3) for v in value.tolist()]  # the chance of leaving on the right, s / 6
      [0.167, 0.333, 0.5, 0.667, 0.833]
    """
    _at_least("num_states", num_states, 1)
    _at_least("max_jump", max_jump, 1)
    jumps = np.concatenate([-np.arange(1, max_jump + 1), np.arange(1, max_jump + 1)])
    target = np.arange(num_states)[:, None, None] + jumps
    left, right = target < 0, target >= num_states
    return checked(
        np.clip(target, 0, num_states - 1),
        np.full(target.shape, 1 / len(jumps)),
        np.where(left, left_reward, np.where(right, right_reward, 0.0)),
        left | right,
        np.eye(num_states)[num_states // 2],
    )


def gamblers_problem(p_heads: float = 0.4, goal: int = 100) -> MDP:
    """The gambler's problem: stake some of the capital on heads until it is 0 or `goal`; reaching the goal pays 1.

    State s is the capital 0, ..., goal; 0 and goal end the game. Action a stakes a + 1, cut to
    min(s, goal − s).

    Args:
      p_heads: probability of winning a stake.
      goal: at least 2.

    Returns:
      `MDP` with outcome lists [goal + 1, goal // 2, 2]. Episodes start with any capital from 1 to goal − 1.

    Source: Sutton & Barto (2018), example 4.3; stakes that are too high are reduced, which the book leaves out.

    Examples:
      >>> from purerl import mdp
      >>> problem = mdp.gamblers_problem(p_heads=0.4, goal=4)
      >>> value = mdp.value_iteration(problem, discount=1.0).value
      >>> [round(v, 2) for v in value.tolist()]  # of having 0 to 4
      [0.0, 0.16, 0.4, 0.64, 0.0]
    """
    _at_least("goal", goal, 2)
    capital = np.arange(goal + 1)[:, None]
    stake = np.minimum(np.arange(1, goal // 2 + 1), np.minimum(capital, goal - capital))
    next_state = np.stack([capital + stake, capital - stake], axis=-1)
    over = (capital == 0) | (capital == goal)
    terminated = (next_state == 0) | (next_state == goal)
    inside = ~over[:, 0]
    return checked(
        next_state,
        np.broadcast_to([p_heads, 1 - p_heads], next_state.shape),
        np.where((next_state == goal) & ~over[..., None], 1.0, 0.0),
        terminated,
        inside / inside.sum(),
    )


def car_rental(
    max_cars: int = 20,
    max_moves: int = 5,
    requests: tuple[float, float] = (3.0, 4.0),
    returns: tuple[float, float] = (3.0, 2.0),
    rental_reward: float = 10.0,
    move_cost: float = 2.0,
) -> MDP:
    """Jack's car rental: two locations rent out cars, and overnight some are moved between them, at a price.

    State i (max_cars + 1) + j: i cars at the first location, j at the second in the evening. Action a moves
    m = a − max_moves cars from the first location to the second, at most as many as are present. Of the cars present in
    the morning (at most `max_cars` per location, the rest returns to the company) as many are rented as are requested;
    returned cars can be rented on the next day. Requests and returns are Poisson, with the tails lumped together.

    Args:
      max_cars: largest number of cars at a location.
      max_moves: largest number of cars moved in a night.
      requests, returns: Poisson means at the two locations.
      rental_reward: earned per car rented.
      move_cost: paid per car moved.

    Returns:
      `MDP` with outcome lists [S, A, S], S = (max_cars + 1)², A = 2 max_moves + 1; rewards are expectations. It never
      ends: use a discount below 1, 0.9 in the book. Episodes start in any state.

    Source: Sutton & Barto (2018), example 4.2.

    Examples:
      >>> from purerl import mdp
      >>> problem = mdp.car_rental(max_cars=2, max_moves=1)
      >>> problem.next_state.shape
      (9, 3, 9)
    """
    places = [_rental_place(max_cars, requests[i], returns[i]) for i in range(2)]
    first, second = np.divmod(np.arange((max_cars + 1) ** 2), max_cars + 1)
    wanted = np.arange(-max_moves, max_moves + 1)
    moved = np.clip(wanted, -second[:, None], first[:, None])
    morning = [np.minimum(first[:, None] - moved, max_cars), np.minimum(second[:, None] + moved, max_cars)]
    evening = [place[0][cars] for place, cars in zip(places, morning)]
    transition = evening[0][..., :, None] * evening[1][..., None, :]  # [S, A, cars + 1, cars + 1]
    rented = places[0][1][morning[0]] + places[1][1][morning[1]]
    return from_dense(transition.reshape(*moved.shape, -1), rental_reward * rented - move_cost * np.abs(moved))


def random_mdp(key: jax.Array, num_states: int, num_actions: int, num_outcomes: int, termination: float = 0.0) -> MDP:
    """A random sparse MDP: uniform next states, flat-Dirichlet probabilities, standard normal rewards.

    Args:
      key: typed PRNG key; vmap over keys for a batch of MDPs.
      num_states, num_actions, num_outcomes: S, A, K.
      termination: probability that an outcome ends the episode.

    Returns:
      `MDP` with outcome lists [S, A, K]; episodes start anywhere. Next states in one list may coincide.

    Source: the Garnet construction of Archibald, McKinnon & Thomas (1995), with rewards on outcomes.

    Examples:
      >>> from purerl import mdp
      >>> mdp.random_mdp(jax.random.key(0), num_states=5, num_actions=3, num_outcomes=2).probability.shape
      (5, 3, 2)
    """
    _at_least("num_states", num_states, 1)
    _at_least("num_actions", num_actions, 1)
    _at_least("num_outcomes", num_outcomes, 1)
    check_scalar("termination", termination, 0, 1)
    return check(_random_mdp(key, (num_states, num_actions, num_outcomes), jnp.float32(termination)))


@functools.partial(jax.jit, static_argnums=1)
def _random_mdp(key: jax.Array, shape: tuple[int, int, int], termination: jax.Array) -> MDP:
    keys = jax.random.split(key, 4)
    weight = jax.random.exponential(keys[1], shape)
    return MDP(
        jax.random.randint(keys[0], shape, 0, shape[0]),
        weight / jnp.sum(weight, axis=-1, keepdims=True),
        jax.random.normal(keys[2], shape),
        jax.random.bernoulli(keys[3], termination, shape),
        jnp.full(shape[0], 1 / shape[0]),
    )


def _rental_place(max_cars: int, requests: float, returns: float) -> tuple[np.ndarray, np.ndarray]:
    """One location over one day: [morning, evening] transition probabilities, and [morning] expected rentals."""
    cars = np.arange(max_cars + 1)
    rent = np.stack([_poisson(requests, morning, max_cars) for morning in range(max_cars + 1)])
    back = np.stack([_poisson(returns, max_cars - left, max_cars) for left in range(max_cars + 1)])
    rented, returned = cars[:, None] - cars, cars - cars[:, None]
    leave = np.where(rented >= 0, rent[cars[:, None], rented], 0.0)  # [morning, left]
    refill = np.where(returned >= 0, back[cars[:, None], returned], 0.0)  # [left, evening]
    return leave @ refill, rent @ cars


def _poisson(mean: float, most: int, length: int) -> np.ndarray:
    """Probabilities of 0, ..., length under a Poisson distribution cut at `most`, which takes the whole tail."""
    below = [math.exp(-mean) * mean**n / math.factorial(n) for n in range(most)]
    return np.array([*below, 1 - math.fsum(below), *[0.0] * (length - most)])


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")

"""PPO in one file, the way single-file JAX baselines write it: the program that purerl's is compared with.

Written from the description of the algorithm (Schulman et al. 2017; CleanRL's settings): environments that reset
themselves in every step, a random permutation by sorting, parameters and optimizer state as trees.

    python benchmarks/peers/plain_ppo.py --num-envs 64 --rollout-length 128
"""

from __future__ import annotations

from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax


class Hparams(NamedTuple):
    """Traced hyperparameters."""

    learning_rate: Any = 2.5e-4
    discount: Any = 0.99
    gae_lambda: Any = 0.95
    clip_epsilon: Any = 0.2
    value_coef: Any = 0.5
    entropy_coef: Any = 0.01
    max_grad_norm: Any = 0.5


class Sizes(NamedTuple):
    """Sizes, which fix the shape of the program."""

    num_envs: int = 4
    rollout_length: int = 128
    num_updates: int = 100
    num_epochs: int = 4
    num_minibatches: int = 4


class Network(nn.Module):
    """Two towers of 64-64 tanh; its initialisers avoid LAPACK, which deadlocks when vmapped on few cores."""

    num_actions: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[distrax.Categorical, jax.Array]:
        """The policy and the value of a batch of observations; images are flattened."""
        x = x.reshape(len(x), -1)
        actor = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(x))))
        critic = nn.tanh(nn.Dense(64)(nn.tanh(nn.Dense(64)(x))))
        return distrax.Categorical(logits=nn.Dense(self.num_actions)(actor)), nn.Dense(1)(critic)[..., 0]


class Step(NamedTuple):
    """One step of all environments."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array
    episode_return: jax.Array


def train(key: jax.Array, hparams: Hparams, env_id: str, sizes: Sizes) -> tuple[Any, jax.Array]:
    """Train one agent; returns its parameters and the mean return of the episodes that ended in each update."""
    env, params = gymnax.make(env_id)
    network = Network(env.action_space(params).n)
    optimizer = optax.chain(
        optax.clip_by_global_norm(hparams.max_grad_norm), optax.adam(hparams.learning_rate, eps=1e-5)
    )
    key, init_key, reset_key = jax.random.split(key, 3)
    obs, env_state = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, sizes.num_envs), params)
    weights = network.init(init_key, obs)

    def env_step(carry: Any, key: jax.Array) -> tuple[Any, Step]:
        weights, env_state, obs, running = carry
        act_key, step_key = jax.random.split(key)
        policy, value = network.apply(weights, obs)
        action = policy.sample(seed=act_key)
        keys = jax.random.split(step_key, sizes.num_envs)
        new_obs, env_state, reward, done = jax.vmap(_step, (None, None, 0, 0, 0))(env, params, keys, env_state, action)
        running += reward
        step = Step(obs, action, policy.log_prob(action), value, reward, done, jnp.where(done, running, jnp.nan))
        return (weights, env_state, new_obs, jnp.where(done, 0.0, running)), step

    def update(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        weights, opt_state, env_state, obs, running = carry
        rollout_key, learn_key = jax.random.split(key)
        (_, env_state, obs, running), steps = jax.lax.scan(
            env_step, (weights, env_state, obs, running), jax.random.split(rollout_key, sizes.rollout_length)
        )
        advantage = _advantages(hparams, steps, network.apply(weights, obs)[1])
        batch = (steps, advantage, advantage + steps.value)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

        def minibatch(learner: Any, part: Any) -> tuple[Any, None]:
            weights, opt_state = learner
            grads = jax.grad(_loss)(weights, network, hparams, *part)
            updates, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(weights, updates), opt_state), None

        def epoch(learner: Any, key: jax.Array) -> tuple[Any, None]:
            order = jax.random.permutation(key, sizes.num_envs * sizes.rollout_length)
            parts = jax.tree.map(lambda x: x[order].reshape(sizes.num_minibatches, -1, *x.shape[1:]), rows)
            return jax.lax.scan(minibatch, learner, parts)

        (weights, opt_state), _ = jax.lax.scan(
            epoch, (weights, opt_state), jax.random.split(learn_key, sizes.num_epochs)
        )
        return (weights, opt_state, env_state, obs, running), jnp.nanmean(steps.episode_return)

    carry = (weights, optimizer.init(weights), env_state, obs, jnp.zeros(sizes.num_envs))
    (weights, *_), returns = jax.lax.scan(update, carry, jax.random.split(key, sizes.num_updates))
    return weights, returns


def _step(env: Any, params: Any, key: jax.Array, env_state: Any, action: jax.Array) -> tuple[Any, Any, Any, Any]:
    """One step of one environment, which starts again by itself at the end of an episode."""
    obs, env_state, reward, terminated, truncated, _ = env.step(key, env_state, action, params)
    return obs, env_state, reward, terminated | truncated


def _advantages(hparams: Hparams, steps: Step, last_value: jax.Array) -> jax.Array:
    """Generalised advantage estimates [T, N]; an ended episode is taken to have terminated."""

    def back(carry: Any, step: Step) -> tuple[Any, jax.Array]:
        advantage, next_value = carry
        goes_on = hparams.discount * (1.0 - step.done)
        error = step.reward + goes_on * next_value - step.value
        advantage = error + goes_on * hparams.gae_lambda * advantage
        return (advantage, step.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last_value), last_value), steps, reverse=True, unroll=16)[1]


def _loss(
    weights: Any, network: Network, hparams: Hparams, steps: Step, advantage: jax.Array, target: jax.Array
) -> jax.Array:
    policy, value = network.apply(weights, steps.obs)
    ratio = jnp.exp(policy.log_prob(steps.action) - steps.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = jnp.clip(ratio, 1 - hparams.clip_epsilon, 1 + hparams.clip_epsilon) * advantage
    near = steps.value + jnp.clip(value - steps.value, -hparams.clip_epsilon, hparams.clip_epsilon)
    value_loss = 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(near - target)).mean()
    objective = jnp.minimum(ratio * advantage, clipped).mean() + hparams.entropy_coef * policy.entropy().mean()
    return hparams.value_coef * value_loss - objective


def main() -> None:
    """Train once to compile and once to time."""
    import argparse
    import time

    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--rollout-length", type=int, default=128)
    parser.add_argument("--num-updates", type=int, default=200)
    chosen = parser.parse_args()
    sizes = Sizes(chosen.num_envs, chosen.rollout_length, chosen.num_updates)
    run = jax.jit(lambda key: train(key, Hparams(), chosen.env, sizes))
    jax.block_until_ready(run(jax.random.key(0)))
    begin = time.perf_counter()
    _, returns = jax.block_until_ready(run(jax.random.key(1)))
    seconds = time.perf_counter() - begin
    steps = sizes.num_envs * sizes.rollout_length * sizes.num_updates
    print(f"{steps / seconds:,.0f} steps/s, return {float(jnp.nanmean(returns[-20:])):.1f}")


if __name__ == "__main__":
    main()

"""Stage 2: DAgger from the tracker into the masked model.

    python -m tt_gym.pretraining.distill --tracker checkpoints/tracker.safetensors --minutes 20

The student acts, the tracker labels every state with its PD target; goals are hidden at random. A
killed run continues from its last checkpoint; only the sample buffer is gathered anew.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import default_config, load_bfm, save_bfm
from tt_gym.bfm.targets import (
    TARGETS,
    TEXT,
    Targets,
    feature_mask,
    mirror_targets,
    observe_targets,
    visible_tokens,
)
from tt_gym.bfm.tokens import mirror_state, observe_state
from tt_gym.checkpoint import (
    CheckpointError,
    load_checkpoint,
    optimizer_state,
    restore_optimizer,
    save_checkpoint,
)
from tt_gym.command_line import one_line_errors, positive
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.distill_env import PROMPT_MODES, DistillEnv
from tt_gym.pretraining.objective import Posterior, kl_divergence, robust_square
from tt_gym.pretraining.old_tokens import OldTokens
from tt_gym.pretraining.teachers import Teachers, add_expert_option, experts_of, load_teachers
from tt_gym.pretraining.weights import first_axes, load_all_it_has
from tt_gym.simulation import SIMULATORS, build_simulator
from tt_gym.text.captions import NONE, mirrored, one_sided
from tt_gym.text.embeddings import varied_captions

Samples = dict[str, Tensor]

NUM_ENVS = 256
STEPS_PER_ROUND = 16
ROUNDS_KEPT = 24
UPDATES_PER_ROUND = 12
BATCH_SIZE = 1024
EXPERT_ROUNDS = 60  # the tracker's share of acting falls from 1 to 0 over these
ACTION_NOISE = 0.03  # rad
LEARNING_RATE = 1e-3  # falls to a fiftieth
AVERAGE_DECAY = 0.9995  # per update, of the averaged weights that act and are shipped
KL_WEIGHT = 1e-4
POSTERIOR_WEIGHT = 0.5
TASK_TOKEN_SHARE = 0.4  # of the updates: a task token near zero then changes nothing later on
TASK_TOKEN_NOISE = 0.12  # largest standard deviation of its action; exploration is of that size
OLD_TOKENS_BATCH, OLD_TOKENS_WEIGHT = 384, 2.0
OLD_TOKENS_ROUNDS, OLD_TOKENS_FIRST = 120, 60  # kept; gathered before the first update
WORDS_NOISE = 0.015  # per entry of an embedding, whose length is 1
SAVE_EVERY = 10
LOW_PRECISION_UNTIL = 0.85  # of the training time, where the processor has bfloat16


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16: updates are then nearly twice as fast.

    Without it torch emulates, and they are two to four times slower than in single precision.
    """
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


class Distiller:
    """One run: environment, networks, buffer, progress.

    Args:
        teachers: who label; they know all clips.
        library: clips to act in.
        run_dir: checkpoint, weights and TensorBoard events.
        seed: of everything random.
        init: model file to start from; the student acts by itself from the first round then.
        words_only: train the encoder of words alone; the model of ``init`` stays what it is.
        old_tokens: shipped tokens that shall stay useful; ``init`` has the shipped model's axes.
        learning_rate: for the first half of the training time.
        simulator: one of :data:`tt_gym.simulation.SIMULATORS`.

    Raises:
        CheckpointError: ``init`` cannot be loaded or has other sizes.
        ValueError: ``words_only`` or ``old_tokens`` without ``init``, or an unknown token.
    """

    def __init__(
        self,
        teachers: Teachers,
        library: MotionLibrary,
        run_dir: Path,
        *,
        seed: int,
        init: Path | None = None,
        words_only: bool = False,
        old_tokens: Sequence[str] = (),
        learning_rate: float = LEARNING_RATE,
        simulator: str = "mujoco_cpu",
    ) -> None:
        if words_only and init is None:
            raise ValueError("words_only needs init, a model whose other parts stay as they are")
        if old_tokens and init is None:
            raise ValueError("old_tokens needs init, a model with the axes of the shipped one")
        torch.manual_seed(seed)
        self.words_only = words_only
        self.teachers, self.run_dir = teachers, run_dir
        self.humanoid = library.humanoid
        physics = build_simulator(simulator, self.humanoid, NUM_ENVS)
        only_mode = "text" if words_only else None
        self.env = DistillEnv(physics, library, seed=seed, only_mode=only_mode)
        config = default_config(self.humanoid)
        self.model = MaskedMimic(config)
        self.captions = varied_captions()
        self.expert_rounds, self.fitted = EXPERT_ROUNDS, False
        # trained tokens stay a good beginning for a model that keeps the axes
        self.fits_basis = init is None
        if init is not None:
            load_all_it_has(self.model, load_bfm(init), init)
            self.expert_rounds, self.fitted = 0, True
        self.old_tokens = OldTokens(old_tokens, self.model, seed=seed) if old_tokens else None
        sizes = {item.name: item for item in config.token_types}
        self.posterior = Posterior(
            self.humanoid, sizes["state"].width, sizes[TARGETS].count, config.latent_size
        )
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.parameters = [*self.model.parameters(), *self.posterior.parameters()]
        if words_only:
            self.model.requires_grad_(False)
            self.parameters = list(self.model.encoders[TEXT].requires_grad_().parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate)
        self.learning_rate = learning_rate
        self.buffer: deque[Samples] = deque(maxlen=ROUNDS_KEPT)
        self.old_buffer: deque[Samples] = deque(maxlen=OLD_TOKENS_ROUNDS)
        self.survived: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=200))
        self.round, self.trained_s = 0, 0.0
        self.checkpoint = run_dir / "checkpoint.safetensors"
        self.writer = SummaryWriter(str(run_dir))

    def gather(self) -> Samples:
        """Act for one round and return its labelled samples."""
        rows: dict[str, list[Tensor]] = defaultdict(list)
        expert_share = max(0.0, self.expert_rounds - self.round) / EXPERT_ROUNDS
        for _ in range(STEPS_PER_ROUND):
            state = self.env.view()
            targets = self.env.targets()
            full = observe_targets(state, all_visible(targets))[0]
            sample = {
                "state": observe_state(state),
                "targets": full,
                "mask": feature_mask(targets),
                "visible": visible_tokens(targets),
                "behaviour": self.env.behaviour(),
                "wording": self.env.wording.clone(),
                "label": self.env.reference(1).pd_target
                + self.teachers(self.env.observe(state), self.env.clip_ids),
            }
            for key, value in sample.items():
                rows[key].append(value)
            action = self.act(sample)
            expert = torch.rand(NUM_ENVS, 1) < expert_share
            action = torch.where(expert, sample["label"], action)
            action = action + ACTION_NOISE * torch.randn_like(action)
            _, failed, over, _ = self.env.advance(action)
            self.env.count_outcomes(failed, over)
            done = (failed | over).nonzero().flatten()
            if len(done):
                for index in done.tolist():
                    mode = PROMPT_MODES[int(self.env.mode[index])]
                    self.survived[mode].append(int(self.env.age[index]))
                self.env.restart(done)
        return {key: torch.cat(values) for key, values in rows.items()}

    @torch.no_grad()
    def act(self, sample: Samples) -> Tensor:
        """The student's PD target."""
        if not self.fitted:
            return sample["label"]
        state = self.average.normalize("state", sample["state"])
        goals = {TARGETS: (sample["targets"] * sample["mask"], sample["visible"])}
        words = self.words(sample["behaviour"], sample["wording"])
        return self.average(state, goals | {TEXT: words})

    def words(self, behaviour: Tensor, wording: Tensor) -> tuple[Tensor, Tensor]:
        """Text tokens (S, 1, W) and where there are any, (S, 1), of indices (S,)."""
        return self.captions[behaviour, wording].unsqueeze(1), (behaviour != NONE).unsqueeze(1)

    def idle_tokens(self, count: int) -> Tensor:
        """Task tokens (count, E) that mean nothing, of actions around zero.

        Trained with zeros alone, the least noise on a token changes the gait.
        """
        size = (count, self.model.token_axes)
        deviation = TASK_TOKEN_NOISE * torch.rand(count, 1)
        return self.average.task_token(deviation * torch.randn(size))

    def mirror(self, sample: Samples) -> Samples:
        """The mirrored humanoid's samples, but as they are where words would not tell the side."""
        index, sign = self.humanoid.mirrored_dofs
        other = {
            "state": mirror_state(sample["state"], self.humanoid),
            "targets": mirror_targets(sample["targets"], self.humanoid),
            "mask": mirror_targets(sample["mask"], self.humanoid).abs(),
            "label": sample["label"][:, index] * sign,
            "behaviour": mirrored(sample["behaviour"]),
        }
        kept = one_sided(sample["behaviour"])
        rows = {
            key: torch.where(kept.view(-1, *[1] * (value.dim() - 1)), sample[key], value)
            for key, value in other.items()
        }
        return sample | rows

    def loss(self, sample: Samples) -> dict[str, Tensor]:
        """Terms of the loss on one minibatch, mirrored half of the time."""
        if torch.rand(()) < 0.5:
            sample = self.mirror(sample)
        raw, full, mask, label = (sample[key] for key in ("state", "targets", "mask", "label"))
        behaviour = sample["behaviour"]
        state = self.model.normalize("state", raw)
        token = self.idle_tokens(len(raw)) if torch.rand(()) < TASK_TOKEN_SHARE else None
        words, told = self.words(behaviour, sample["wording"])
        # other wordings lie somewhere around those that are known
        words = words + WORDS_NOISE * torch.randn_like(words)
        goals = {TARGETS: (full * mask, sample["visible"]), TEXT: (words, told)}
        mean, logvar = self.model.prior(state, goals, token)
        logvar = logvar.clamp(-8.0, 4.0)
        shift, posterior_logvar = self.posterior(state, full)
        noise = torch.randn_like(mean) * (0.5 * posterior_logvar).exp()
        from_prior = self.model.decode(state, mean)
        if self.words_only:
            error = robust_square(from_prior - label).mean(dim=-1, keepdim=True)
            return {"prior": (error * told).sum() / told.sum().clamp(min=1)}
        from_posterior = self.model.decode(state, mean + shift + noise)
        return {
            "prior": robust_square(from_prior - label).mean(),
            "posterior": POSTERIOR_WEIGHT * robust_square(from_posterior - label).mean(),
            "kl": KL_WEIGHT * kl_divergence(shift, posterior_logvar, logvar).mean(),
        }

    def old_token_loss(self) -> Tensor:
        """How far the model is, beside tokens of the shipped one, from what that would do."""
        samples = self.old_buffer[int(torch.randint(len(self.old_buffer), ()))]
        pick = torch.randint(len(samples["label"]), (OLD_TOKENS_BATCH,))
        row = {key: value[pick] for key, value in samples.items()}
        goals = {TARGETS: (row["targets"], row["visible"]), TEXT: (row["words"], row["told"])}
        token = self.average.task_token(row["action"])
        error = self.model(row["state"], goals, token) - row["label"]
        return OLD_TOKENS_WEIGHT * robust_square(error).mean()

    def update(self, *, low_precision: bool) -> dict[str, float]:
        """A few gradient steps, the newest round more often than the others."""
        terms: dict[str, Tensor] = {}
        for number in range(UPDATES_PER_ROUND):
            newest = torch.rand(()) < 0.3
            row = len(self.buffer) - 1 if newest else int(torch.randint(len(self.buffer), ()))
            samples = self.buffer[row]
            pick = torch.randint(len(samples["label"]), (BATCH_SIZE,))
            with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
                terms = self.loss({key: value[pick] for key, value in samples.items()})
                if self.old_buffer:
                    terms["old_tokens"] = self.old_token_loss()
                total = torch.stack(list(terms.values())).sum()
            self.optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.follow(UPDATES_PER_ROUND * self.round + number)
        return {key: float(value.detach()) for key, value in terms.items()}

    @torch.no_grad()
    def follow(self, updates: int) -> None:
        """Move the average of the weights towards those of now, the less the more updates."""
        decay = min(AVERAGE_DECAY, (1.0 + updates) / (10.0 + updates))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for average, weight in pairs:
            average.lerp_(weight, 1.0 - decay)

    def run(self, seconds: float) -> None:
        """Train until ``seconds`` of training have passed, those before a resume included."""
        last = time.monotonic()
        low_precision_until = LOW_PRECISION_UNTIL if has_bfloat16() else 0.0
        if not self.env.age.any():
            self.env.reset()
        while self.trained_s < seconds:
            fraction = self.trained_s / seconds
            for group in self.optimizer.param_groups:
                # constant for the first half, then down in a straight line
                decay = min(1.0, 2.0 - 2.0 * fraction)
                group["lr"] = self.learning_rate * (0.02 + 0.98 * decay)
            self.buffer.append(self.gather())
            if self.old_tokens is not None:
                for _ in range(1 if self.old_buffer else OLD_TOKENS_FIRST):
                    self.old_buffer.append(self.old_tokens.gather(self.average, STEPS_PER_ROUND))
            if not self.fitted:
                for model in (self.model, self.average):
                    model.normalizers["state"].fit(self.buffer[0]["state"])  # type: ignore[operator]
                self.fitted = True
            terms = self.update(low_precision=fraction < low_precision_until)
            self.round += 1
            now = time.monotonic()
            self.trained_s, last = self.trained_s + now - last, now
            if self.round % SAVE_EVERY == 0:
                self.report(terms)
                self.save()
        self.save()

    def report(self, terms: dict[str, float]) -> None:
        """One progress line and TensorBoard scalars."""
        samples = self.round * NUM_ENVS * STEPS_PER_ROUND
        lengths = {
            mode: sum(self.survived[mode]) / max(1, len(self.survived[mode]))
            for mode in PROMPT_MODES
        }
        for name, value in terms.items():
            self.writer.add_scalar(f"loss/{name}", value, samples)
        for mode, length in lengths.items():
            self.writer.add_scalar(f"episode_steps/{mode}", length, samples)
        print(
            f"{self.trained_s:6.0f} s  {samples / 1e6:.2f} M samples  "
            + "  ".join(f"{name} {value:.4f}" for name, value in terms.items())
            + "  | steps survived: "
            + "  ".join(f"{mode} {length:.0f}" for mode, length in lengths.items()),
            flush=True,
        )

    @torch.no_grad()
    def fit_token_basis(self) -> None:
        """From the goals that were shown in the newest round, for a model from scratch."""
        newest = self.buffer[-1]
        shown = (newest["targets"] * newest["mask"])[newest["visible"]]
        model = self.average
        tokens = model.encoders[TARGETS](model.normalize(TARGETS, shown))
        words, told = self.words(newest["behaviour"], newest["wording"])
        model.fit_token_basis(torch.cat((tokens, model.encoders[TEXT](words[told]))))

    def save(self) -> None:
        """Write the resumable checkpoint and the weights alone."""
        if self.buffer and self.fits_basis:
            self.fit_token_basis()
        content: dict[str, Any] = {
            "model": dict(self.model.state_dict()),
            "average": dict(self.average.state_dict()),
            "posterior": dict(self.posterior.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "round": self.round,
            "fitted": self.fitted,
            "trained_s": self.trained_s,
            "torch_rng": torch.get_rng_state(),
        }
        save_checkpoint(self.checkpoint, kind="distill", content=content)
        save_bfm(self.average, self.run_dir / "bfm.safetensors")

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one.

        Raises:
            CheckpointError: its model has other parts than this one.
        """
        if not self.checkpoint.exists():
            return
        saved = load_checkpoint(self.checkpoint, kind="distill")
        if saved["model"].keys() != self.model.state_dict().keys():
            raise CheckpointError(
                f"{self.checkpoint}: a run of a model with other parts, from before words perhaps; "
                "start a new one from its bfm.safetensors with --init"
            )
        axes = self.model.token_axes
        self.model.load_state_dict(first_axes(saved["model"], axes))
        self.average.load_state_dict(first_axes(saved.get("average", saved["model"]), axes))
        self.posterior.load_state_dict(saved["posterior"])
        restore_optimizer(self.optimizer, saved["optimizer"])
        self.round, self.trained_s = saved["round"], saved["trained_s"]
        self.fitted = saved.get("fitted", True)  # older files were written after it only
        torch.set_rng_state(saved["torch_rng"])
        print(f"continuing {self.checkpoint} after {self.trained_s:.0f} s")


def all_visible(targets: Targets) -> Targets:
    """The same targets with nothing hidden."""
    shown: dict[str, Any] = {
        field.name: torch.ones_like(getattr(targets, field.name))
        for field in dataclasses.fields(targets)
        if field.name.endswith("_visible") and getattr(targets, field.name) is not None
    }
    return dataclasses.replace(targets, **shown)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracker", type=Path, default=Path("checkpoints/tracker.safetensors"))
    parser.add_argument("--clips", nargs="+", default=["shipped"], help="names, files or folders")
    add_expert_option(parser)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/distill"))
    parser.add_argument("--minutes", type=positive, default=20.0, help="training time in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="start from this model instead of from scratch")
    parser.add_argument(
        "--words-only", action="store_true", help="train only the encoder of words of --init"
    )
    parser.add_argument(
        "--old-tokens",
        nargs="+",
        default=[],
        metavar="TOKEN",
        help="shipped tokens that the new model, with --init, shall answer as the shipped one does",
    )
    parser.add_argument("--learning-rate", type=positive, default=LEARNING_RATE)
    parser.add_argument("--simulator", choices=SIMULATORS, default=SIMULATORS[0])
    args = parser.parse_args()
    if args.words_only and args.init is None:
        parser.error("--words-only needs --init")
    if args.old_tokens and args.init is None:
        parser.error("--old-tokens needs --init")
    experts = experts_of(parser, args.expert)
    with one_line_errors("distill"):
        teachers, library = load_teachers([(args.tracker, args.clips), *experts])
        distiller = Distiller(
            teachers,
            library,
            args.run_dir,
            seed=args.seed,
            init=args.init,
            words_only=args.words_only,
            old_tokens=args.old_tokens,
            learning_rate=args.learning_rate,
            simulator=args.simulator,
        )
        distiller.resume()
        distiller.run(60.0 * args.minutes)
    print(f"model: {args.run_dir / 'bfm.safetensors'}")


if __name__ == "__main__":
    main()

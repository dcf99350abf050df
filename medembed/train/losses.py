"""What a recipe asks to be minimised: one weighted sum over the embeddings of one batch, each text of which is embedded once.

Shapes: B rows in the batch of all processes, b of them this process's own; n hard negatives a row; P = B (1 + n) passages. Every term
reads the same logits, which are float32 whatever the model computes in:

    logits[i, j] = s(query i, passage j) / temperature
    dense               s is the cosine
    late interaction    s is MaxSim (arXiv:2004.12832) by the number of the query's tokens: mean_t max_u cos(q_t, p_u)

Both lie in [-1, 1], so that a temperature means the same to both. A negative that a row lacks is compared with no query.

    contrastive    InfoNCE (arXiv:1705.00652): -log softmax(logits[i])[own passage of i], over all P passages
      symmetric    the mean of this and of the other direction: the own passage of i over all B queries
      guide        without the pairs that may be right, see `guide` (GISTEmbed, arXiv:2402.16829)
    distil         KL(teacher || student) (arXiv:2010.11386), over a row's own 1 + n passages: softmax(teacher's logits /
                   teacher_temperature) against softmax(own logits)
    margin_mse     (own logit - that of negative k - (the same of the teacher) / teacher_temperature)², mean over k (arXiv:2010.02666)

The loss is the sum of weight × mean over the B rows; with Matryoshka dimensions (arXiv:2205.13147) its mean over the first d numbers
of the embeddings, for each d. A weight of 1.0 means: contrastive and distil are both in nats, and each pulls at a row's logits by
(student's - wanted probabilities), so that at equal weights they are equally strong at any temperature; sentence-transformers
multiplies its KL by temperature², which at 0.02 would leave 1 / 2,500 of it. margin_mse pulls at a logit by twice its error, in
logits, where the others pull by 1 at most: it is the stronger one at equal weights, and grows with the square of both scales.

Memory is that of one mini-batch through the model and of `mini_batch_size` rows of logits (GradCache, arXiv:2101.06983). N processes
give the loss and the gradients of one with the same batch, however its rows are dealt out: the embeddings of all meet in each,
which answers for its own rows.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank, get_world_size, mean_maxsim
from torch import Tensor, nn

from medembed.recipe import Train
from medembed.train.guide import may_answer
from medembed.train.minibatches import ByLength, Features, as_wide

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer

    from medembed.train.data import Rows


def loss_of(train: Train, model: "SentenceTransformer | MultiVectorEncoder", rows: "Rows") -> "BatchLoss":
    """The loss that `train` asks for; its inputs are the columns of `rows`, in their order, and the rows' numbers as labels."""
    return BatchLoss(train, model, rows)


def compared_with(train: Train, negatives: int, processes: int) -> str:
    """What a query is compared with, in words: the batch of all processes, and what is not in it."""
    if not train.losses.contrastive:
        return f"each query is compared with its own passage and its own {negatives} hard negatives alone"
    batch, n = train.batch_size, negatives
    told = f"each query is compared with {batch * (1 + n)} passages: its own, {batch - 1} of other queries, {batch * n} hard negatives"
    told += f", from {processes} processes × {batch // processes} rows" if processes > 1 else ""
    told += f"; each query's passage with {batch} queries" if train.symmetric else ""
    told += "; less what the guide holds for right" if train.guide else ""
    if train.accumulation > 1:
        told += f"; accumulation makes a step of {train.accumulation} such batches and adds no negatives"
    return told


class BatchLoss(nn.Module, ByLength):  # type: ignore[misc]
    """The weighted sum of the module's head, for one model and the rows that it is trained on."""

    def __init__(self, train: Train, model: "SentenceTransformer | MultiVectorEncoder", rows: "Rows") -> None:
        super().__init__()
        self.model, self.guide, self.mini_batch_size = model, rows.guide, train.mini_batch_size
        self.mini_batch_num_tokens = train.mini_batch_size * (train.max_length or model.max_seq_length)
        self.weights, self.symmetric = train.losses, train.symmetric
        self.temperature, self.teacher_temperature = train.temperature, train.teacher_temperature
        self.late = train.method == "late-interaction"
        own = model.get_embedding_dimension()
        self.dimensions = [None, *(first for first in train.matryoshka if first != own)]  # none: all of them
        teacher = None if rows.teacher is None else torch.from_numpy(rows.teacher)
        self.register_buffer("missing", torch.from_numpy(rows.missing), persistent=False)
        self.register_buffer("teacher", teacher, persistent=False)

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor) -> Tensor:
        tasks = ({"task": "document" if column else "query"} | each for column, each in enumerate(sentence_features))
        loss: Tensor = self.forward_cached(tasks, labels)
        return loss

    def embed(self, features: Features) -> Tensor:
        """(texts, D), or (texts, tokens, D) where a zero vector stands for a token that is not scored."""
        out = self.model(features, task=features["task"])
        embeddings: Tensor = out["sentence_embedding"] if not self.late else _scored_tokens(out)
        return embeddings.float()

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss from the embeddings of the batch's parts; `with_backward` leaves in these their gradients."""
        assert labels is not None
        return self.of_columns(self.in_order(reps), labels, with_backward=with_backward)

    def of_columns(self, columns: list[Tensor], labels: Tensor, *, with_backward: bool = False) -> Tensor:
        """The loss from the embeddings of each column, 2 + n of (b, …), of the rows whose numbers are `labels` (b,)."""
        numbers = of_each_process(labels)
        batch = torch.cat(numbers)  # (B,) which rows they are; b of them, from `first` on, are this process's
        first = sum(len(each) for each in numbers[: get_rank()])
        queries = torch.cat(of_each_process(columns[0]))  # (B, …)
        passages = torch.cat(of_each_process(torch.stack(as_wide(columns[1:]), dim=1)))  # (B, 1 + n, …)
        guide = self.guide.embeddings(batch) if self.guide else None
        # Gradients are averaged over the processes afterwards, where they are to be added.
        share = get_world_size() / len(batch) / len(self.dimensions)

        loss = queries.new_zeros(())
        embeddings, gradients = [], []
        with torch.autocast(queries.device.type, enabled=False):
            for dimension in self.dimensions:
                views = [F.normalize(each[..., :dimension], dim=-1) for each in (queries, passages)]
                # The graph of a block of rows ends at leaves: what lies before them is gone back through once, not for each block.
                leaves = [view.detach().requires_grad_() for view in views] if with_backward else views
                for rows in torch.arange(first, first + len(labels), device=batch.device).split(self.mini_batch_size):
                    part = share * self._sum_over(rows, batch, leaves[0], leaves[1], guide)
                    if with_backward:
                        part.backward()
                        part = part.detach()
                    loss = loss + part
                embeddings += views
                gradients += [leaf.grad for leaf in leaves]
        if with_backward:
            torch.autograd.backward(embeddings, gradients)
        return loss

    def _sum_over(
        self, rows: Tensor, batch: Tensor, queries: Tensor, passages: Tensor, guide: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """The loss of some `rows` (r,) of the `batch` (B,), added up. `queries` are (B, …), `passages` (B, 1 + n, …)."""
        missing = F.pad(self.missing[batch], (1, 0))  # (B, 1 + n): no row lacks its own passage
        places = torch.arange(missing.numel(), device=rows.device).view_as(missing)[
            rows
        ]  # (r, 1 + n) of their own among P
        logits = similarity(queries[rows], passages.flatten(0, 1)) / self.temperature  # (r, P)
        logits = logits.masked_fill(missing.flatten(), -torch.inf)
        own, missing = logits.gather(1, places), missing[rows]  # (r, 1 + n)
        loss = logits.new_zeros(())
        if self.weights.contrastive:
            right = places[:, :1]
            seen = similarity(guide[0][rows], guide[1].flatten(0, 1)) if guide else None
            terms = [info_nce(self._guided(logits, right, seen), right)]
            if self.symmetric:
                logits = similarity(queries, passages[rows, 0]).T / self.temperature  # (r, B)
                right = rows[:, None]
                seen = similarity(guide[0], guide[1][rows, 0]).T if guide else None
                terms.append(info_nce(self._guided(logits, right, seen), right))
            loss = loss + self.weights.contrastive * torch.stack(terms).mean(0).sum()
        if self.weights.distil:
            teacher = self.teacher[batch[rows]] / self.teacher_temperature
            loss = loss + self.weights.distil * divergence(own, teacher, missing).sum()
        if self.weights.margin_mse:
            teacher = self.teacher[batch[rows]] / self.teacher_temperature
            loss = loss + self.weights.margin_mse * margin_error(own, teacher, missing).sum()
        return loss

    def _guided(self, logits: Tensor, right: Tensor, seen: Tensor | None) -> Tensor:
        """`logits` without those of the pairs that the guide, which has `seen` them so, holds for right."""
        if self.guide is None or seen is None:
            return logits
        return logits.masked_fill(may_answer(seen, right, self.guide.relative_margin), -torch.inf)


# ---- the terms, row by row: (r,) each ----


def info_nce(logits: Tensor, right: Tensor) -> Tensor:
    """-log softmax(logits)[right], for `logits` (r, candidates) and the places `right` (r, 1)."""
    return logits.logsumexp(1) - logits.gather(1, right).squeeze(1)


def divergence(student: Tensor, teacher: Tensor, missing: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) over what is not `missing`; all (r, 1 + n)."""
    wanted = teacher.masked_fill(missing, -torch.inf).softmax(1)
    found = student.masked_fill(missing, -torch.inf).log_softmax(1).masked_fill(missing, 0)  # times a probability of 0
    return F.kl_div(found, wanted, reduction="none").sum(1)


def margin_error(student: Tensor, teacher: Tensor, missing: Tensor) -> Tensor:
    """The mean squared difference between the margins of both, over the negatives that are not `missing`; all (r, 1 + n)."""
    difference = student - teacher
    margins = (difference[:, :1] - difference[:, 1:]).masked_fill(missing[:, 1:], 0)
    return margins.square().sum(1) / (~missing[:, 1:]).sum(1)


# ---- embeddings ----


def similarity(queries: Tensor, passages: Tensor) -> Tensor:
    """(Q, P) in [-1, 1], of unit vectors: (Q, D) with (P, D), or (Q, tokens, D) with (P, tokens, D)."""
    return (
        mean_maxsim(queries, passages) if queries.dim() == 3 else queries @ passages.T
    )  # takes zero vectors for no token


def of_each_process(own: Tensor) -> list[Tensor]:
    """What each process calls with, in their order, with gradients. Their shapes may differ; all but the first size are filled up."""
    if get_world_size() == 1:
        return [own]
    shapes = all_gather(torch.tensor([own.shape], device=own.device))  # (processes, dimensions of a tensor)
    room = [most - here for most, here in zip(shapes.amax(0).tolist(), own.shape, strict=True)]
    filled = F.pad(own, [side for each in reversed(room) for side in (0, each)])
    parts = all_gather_with_grad(filled).chunk(get_world_size())
    return [part[:rows] for part, rows in zip(parts, shapes[:, 0].tolist(), strict=True)]


def _scored_tokens(out: dict[str, Tensor]) -> Tensor:
    return out["token_embeddings"] * out["attention_mask"].unsqueeze(-1)

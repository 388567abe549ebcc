"""Writes goldens/task_metrics.json: what scikit-learn, scipy, seqeval and tokenizers say of small random
cases, and what the rules of SQuAD's official scripts, stated here once more, say of awkward answers.

    pip install numpy scipy scikit-learn seqeval tokenizers
    python make_task_goldens.py
"""

import collections
import json
import pathlib
import random
import re
import string

import numpy
import scipy.stats
import seqeval.metrics
import sklearn.metrics
import tokenizers

random.seed(20)


def classification_cases():
    cases = []
    for classes, size in [(2, 1), (2, 7), (2, 50), (3, 40), (5, 60), (4, 9)]:
        for bias in (0.0, 0.6):
            gold = [random.randrange(classes) for _ in range(size)]
            predicted = [g if random.random() < bias else random.randrange(classes) for g in gold]
            cases.append((classes, gold, predicted))
    cases.append((2, [0, 1, 1], [1, 1, 1]))  # one class is never predicted
    cases.append((2, [0, 0, 0], [0, 0, 0]))
    cases.append((3, [0, 2, 2], [2, 2, 0]))  # one class is neither there nor predicted
    out = []
    for classes, gold, predicted in cases:
        case = dict(classes=classes, gold=gold, predicted=predicted)
        case["accuracy"] = sklearn.metrics.accuracy_score(gold, predicted)
        case["macro_f1"] = sklearn.metrics.f1_score(gold, predicted, average="macro", zero_division=0)
        case["matthews"] = sklearn.metrics.matthews_corrcoef(gold, predicted)
        if classes == 2:
            case["f1"] = sklearn.metrics.f1_score(gold, predicted, zero_division=0)
        out.append({key: value if isinstance(value, list) else float(value)
                    for key, value in case.items()})
    return out


def correlation_cases():
    out = []
    for size, step in [(2, 0), (5, 0), (40, 0), (40, 0.5), (60, 2.0)]:
        x = [random.uniform(0, 5) for _ in range(size)]
        y = [value + random.gauss(0, 1.5) for value in x]
        if step:  # ties
            x, y = ([round(value / step) * step for value in values] for values in (x, y))
        out.append(dict(x=x, y=y, pearson=float(scipy.stats.pearsonr(x, y).statistic),
                        spearman=float(scipy.stats.spearmanr(x, y).statistic),
                        ranks=[float(rank) for rank in scipy.stats.rankdata(x)],
                        mean_squared_error=float(sklearn.metrics.mean_squared_error(x, y))))
    return out


def entity_cases():
    out = []
    for prefixes in ("BI", "IB", "BIES", "BIES", "I"):
        for like in (0.5, 0.9):
            tags = ["O", "O"] + [f"{p}-{t}" for p in prefixes for t in ("loc", "creative-work")]
            gold, predicted = [], []
            for _ in range(6):
                gold.append([random.choice(tags) for _ in range(random.randrange(1, 12))])
                predicted.append([g if random.random() < like else random.choice(tags) for g in gold[-1]])
            report = seqeval.metrics.classification_report(gold, predicted, output_dict=True,
                                                           zero_division=0)
            types = {name: [float(row[key]) for key in ("precision", "recall", "f1-score")]
                     for name, row in report.items() if " avg" not in name}
            out.append(dict(gold=gold, predicted=predicted, types=types,
                            precision=float(seqeval.metrics.precision_score(gold, predicted)),
                            recall=float(seqeval.metrics.recall_score(gold, predicted)),
                            f1=float(seqeval.metrics.f1_score(gold, predicted)),
                            accuracy=float(seqeval.metrics.accuracy_score(gold, predicted))))
    return out


def words_of(answer):
    text = "".join(c for c in answer.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def overlap(predicted, gold):
    common = sum((collections.Counter(predicted) & collections.Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def answer_cases():
    pieces = ["the", "The", "THE", "a", "an", "An", "apple", "Denver", "Broncos", "\u00c9cole", "\u0130stanbul",
              "\u039f\u0394\u039f\u03a3", "\u03a3", "\u03a3\u0391\u03a3's", "stra\u00dfe", "10\u00b2", "\u2460", "e\u0301", "1,000", "U.S.", "a_b", "the-end",
              "a\u2013b", "the\u2019s", "\u4e2d\u6587", "$5", "\U0001f600", "a\u0301", "\u01c5", "-", "...", "th\u00e9", "\u00aa"]
    joints = [" ", " ", " ", "  ", "\u00a0", "\u2003", "\t", "\n", "-", "", "\u200b", "\u3000", "\u2028", "\x1f"]
    answers = ["", "the", "a the an", " ", "!", "The End.", "the end", "an  end!"]
    for _ in range(150):
        text = ""
        for _ in range(random.randrange(1, 5)):
            text += random.choice(pieces) + random.choice(joints)
        answers.append(text)
    out = []
    for answer in answers:
        other = random.choice(answers)
        predicted, gold = words_of(answer), words_of(other)
        empty = not predicted or not gold
        out.append(dict(answer=answer, other=other, words=predicted, f1=overlap(predicted, gold),
                        f1_version2=float(predicted == gold) if empty else overlap(predicted, gold)))
    return out


def threshold_cases():
    out = []
    for size in (1, 2, 9, 30):
        for scale in (0.2, 3):
            rows = []
            for _ in range(size):
                has_answer = random.random() < 0.6
                score = random.choice([0, 0.4, 1]) if has_answer else 0
                none = random.gauss(-1 if has_answer else 1, scale)
                rows.append([none, has_answer, score])
            # Every threshold that tells two rows apart, and one below all of them.
            choices = [min(row[0] for row in rows) - 1] + sorted(row[0] for row in rows)
            def total(threshold):
                return sum((score if has_answer else 0) if none <= threshold else float(not has_answer)
                           for none, has_answer, score in rows)
            best = max(choices, key=total)
            out.append(dict(rows=rows, threshold=best, value=100 * total(best) / size))
    return out


def truncation_cases():
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    out = []
    for most in (1, 2, 5, 6, 9):
        words.enable_truncation(max_length=most, strategy="longest_first")
        for first in range(0, 11, 2 if most > 5 else 3):
            for second in range(0, 12):
                found = words.encode(" ".join(["a"] * first), " ".join(["a"] * second)).sequence_ids
                out.append([first, second, most, found.count(0), found.count(1)])
    return out


goldens = dict(classification=classification_cases(), correlation=correlation_cases(),
               entities=entity_cases(), answers=answer_cases(), thresholds=threshold_cases(),
               truncation=truncation_cases())
path = pathlib.Path(__file__).parent / "goldens" / "task_metrics.json"
path.write_text(json.dumps(goldens, ensure_ascii=True, separators=(",", ":")).replace("},{", "},\n{") + "\n")
print(path, path.stat().st_size, "bytes;", {key: len(value) for key, value in goldens.items()})

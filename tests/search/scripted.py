"""Trials whose processes are stood in for."""

import multiprocessing

from tfcredit.training.run_directory import RunDirectory


class Scripted:
    """In the place of a trial's process: speaks and answers as its script says.

    A script is a list of what the process does at each of its starts: accuracies of epochs, and a
    last word, one of a `RunProcess`' messages or "crashed".
    """

    scripts: dict[int, list[tuple[list[float], str]]] = {}
    part = "test"
    started: list[int] = []

    def __init__(self, recipe, log, place, places):
        self.place = place
        self.folder = RunDirectory(recipe.run_dir)
        number = int(self.folder.path.name)
        self.epochs, self.word = self.scripts[number].pop(0)
        self.started.append(number)
        self.connection, self.theirs = multiprocessing.Pipe()
        self.theirs.send(None)  # there is something to hear
        self.told = 0
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.folder.flags.write_text(recipe.flagfile())

    def hear(self):
        if self.told < len(self.epochs):
            self.told += 1
            rows = [f"{i + 1},{i + 1},{v}" for i, v in enumerate(self.epochs[: self.told])]
            self.folder.metrics.write_text(
                "\n".join([f"epoch,step,{self.part}_top1", *rows]) + "\n"
            )
            if self.told < len(self.epochs) or self.word == "crashed":
                return "epoch", None
        return self.word, self.epochs[-1] if self.word == "finished" else "a sentence"

    def answer(self, word):
        if word == "stop":
            self.epochs, self.word = self.epochs[: self.told], "stopped"

    def join(self):
        pass

    abandon = join

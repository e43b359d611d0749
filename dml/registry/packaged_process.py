"""Ask a packed model in a process of its own: a script that imports nothing of dml, so that the packed code is found.

Standard input and output carry one JSON object a line: ``{"rows": [...], "params": {...}}`` and a list of rows.
"""

import json
import os
import sys


def main() -> None:
    """Load the model in the folder that is the only argument, and answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import pandas as pd
    from mlflow import pyfunc

    model = pyfunc.load_model(sys.argv[1], suppress_warnings=True)
    for line in sys.stdin:
        question = json.loads(line)
        said = model.predict(pd.DataFrame(question["rows"]), params=question["params"] or None)
        answers.write(json.dumps(said.to_dict("records")) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

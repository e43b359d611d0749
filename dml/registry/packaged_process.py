"""Run a packaged model in a process of its own; imports nothing of dml, so that the packaged code is used.

Standard input and output carry one JSON object a line: ``{"rows": [...], "params": {...}}`` and a list of rows.
"""

import json
import os
import sys


def main() -> None:
    """Load the model in the folder that is the only argument, and predict until the input ends."""
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no response
    import pandas as pd
    from mlflow import pyfunc

    model = pyfunc.load_model(sys.argv[1], suppress_warnings=True)
    for line in sys.stdin:
        request = json.loads(line)
        predictions = model.predict(pd.DataFrame(request["rows"]), params=request["params"] or None)
        responses.write(json.dumps(predictions.to_dict("records")) + "\n")
        responses.flush()


if __name__ == "__main__":
    main()

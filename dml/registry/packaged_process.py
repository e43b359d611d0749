"""Run a packaged model in a process of its own; imports nothing of dml, so that the packaged code is used.

Standard input and output carry one JSON object a line: ``{"rows": [...], "params": {...}}`` and a list of rows.
"""

import json
import os
import sys

FORMER_NAMES = {"attention": "relevance"}
"""Parameters (and the columns that they ask for) that versions packed before 0.2 have under another name."""


def main() -> None:
    """Load the model in the folder that is the only argument, and predict until the input ends."""
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no response
    import pandas as pd
    from mlflow import pyfunc

    model = pyfunc.load_model(sys.argv[1], suppress_warnings=True)
    schema = model.metadata.get_params_schema()
    declared = {param.name for param in schema.params} if schema else set()
    names = {name: former for name, former in FORMER_NAMES.items() if name not in declared and former in declared}
    for line in sys.stdin:
        request = json.loads(line)
        params = {names.get(name, name): value for name, value in request["params"].items()}
        predictions = model.predict(pd.DataFrame(request["rows"]), params=params or None)
        predictions = predictions.rename(columns={former: name for name, former in names.items()})
        responses.write(json.dumps(predictions.to_dict("records")) + "\n")
        responses.flush()


if __name__ == "__main__":
    main()

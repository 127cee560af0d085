// Charts: fetches the columns of a point from the gateway and draws them with uPlot.
"use strict";

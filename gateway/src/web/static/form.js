// What forms do by themselves.
"use strict";

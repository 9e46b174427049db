from modelpress.report.extras import Curve, Extras

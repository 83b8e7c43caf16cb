"""Open data 公共数据开放: immutable versions of datasets, in the formats people use, with a page that explains them."""

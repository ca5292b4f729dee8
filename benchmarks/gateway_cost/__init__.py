"""What Hive's gateway costs by itself: Envoy with the chart's configuration, before a replica that answers at once.

    python -m benchmarks.gateway_cost             # under a minute; needs no engine, no Ray and no GPU

Latency: one chat request after the other over one connection, to the upstream itself and through gateways with 5, 50
and 200 models, in turn, so that every round has each of them. The model that is asked for stands last in the routes.
Memory: resident size of Envoy before and with 500 streams that are open and idle.
"""

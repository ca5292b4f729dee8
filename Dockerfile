# An image with Hive's code in it, in place of the ConfigMaps that the chart makes for a stock image:
#
#     docker build -t registry.example/hive:0.1.0 . && docker push registry.example/hive:0.1.0
#     helm install hive ./chart -f values.yaml --set image.repository=registry.example/hive,image.tag=0.1.0,image.hasCode=true
#
# The base is what chart/values.yaml names as image; it has Ray, vLLM and CUDA.
FROM rayproject/ray-llm:2.60.0-py312-cu130
COPY --chown=root:root gateway /opt/hive/gateway
COPY --chown=root:root release /opt/hive/release
COPY --chown=root:root serve_app /opt/hive/serve_app
COPY --chown=root:root vram_agent /opt/hive/vram_agent

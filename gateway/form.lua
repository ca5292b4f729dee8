-- The model that a form asks for (audio endpoints): its field `model`, put where the JSON filter puts it.
-- It reads one part after the other, so that nothing inside a file is taken for a field.
function envoy_on_request(request)
  local kind = request:headers():get("content-type") or ""
  local boundary = kind:match('^multipart/form%-data;.*boundary="?([^";]+)"?')
  if boundary == nil then
    return
  end
  local body = request:body()
  if body == nil then
    return
  end
  local text = body:getBytes(0, body:length())
  local mark = "--" .. boundary
  local _, last = text:find(mark, 1, true)
  while last ~= nil do
    local head, start = text:find("\r\n\r\n", last, true)
    local stop, next_last = text:find("\r\n" .. mark, last, true)
    if head == nil or stop == nil then
      return
    end
    local about = text:sub(last, head):lower()
    if head < stop and about:find('[; ]name="?model"?[;\r\n]') and not about:find("filename", 1, true) then
      request:streamInfo():dynamicMetadata():set("hive", "model", text:sub(start + 1, stop - 1))
      request:clearRouteCache()
      return
    end
    last = next_last
  end
end

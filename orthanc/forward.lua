-- Forwards films to a dicom-node when their study is stable: each film once, and never the node's own results.
--
-- Research use only.
--
-- The state of each received film is in its metadata "DicomNode" (orthanc.json, UserMetadata): "waiting" when
-- it is stored, "sent" when the node has acknowledged it. A study becomes stable again each time that the
-- node's results are stored in it; by then its films are "sent", so no film is sent twice. The state is in
-- Orthanc's database: a restart, a full job history or a stopped node loses no film.

local MODALITY = 'dicom-node'     -- name of the node in DicomModalities, which has its address
local STATE = 'DicomNode'         -- name of the metadata
local FIRST_PAUSE = 10            -- seconds before a film is sent again; doubled after each failure
local LAST_PAUSE = 600            -- longest pause, in seconds
local CHANGES = 5000              -- number of last changes that are searched for films after a restart

-- SOP classes (PS3.4 B.5) that the node accepts. SR, PR, KO, SEG and PDF are not among them.
local FILMS = {
   ['1.2.840.10008.5.1.4.1.1.1'] = true,       -- Computed Radiography
   ['1.2.840.10008.5.1.4.1.1.1.1'] = true,     -- Digital X-Ray, for presentation
   ['1.2.840.10008.5.1.4.1.1.1.1.1'] = true,   -- Digital X-Ray, for processing
   ['1.2.840.10008.5.1.4.1.1.7'] = true,       -- Secondary Capture
   ['1.2.840.10008.5.1.4.1.1.7.2'] = true,     -- multi-frame grayscale byte
   ['1.2.840.10008.5.1.4.1.1.7.3'] = true,     -- multi-frame grayscale word
   ['1.2.840.10008.5.1.4.1.1.7.4'] = true,     -- multi-frame true colour
}

local sending = {}    -- film -> true while a job sends it
local job_films = {}  -- job -> film
local paused = {}     -- film -> { due, pause } after a failure
local aet = nil       -- AE title of the node

local function node_aet()
   if aet == nil then
      local node = ParseJson(RestApiGet('/modalities?expand'))[MODALITY]
      if node == nil then
         error('DicomModalities has no entry "' .. MODALITY .. '": nothing can be forwarded')
      end
      aet = node['AET'] or node[1]
   end
   return aet
end

-- A result of the node is recognised by its sender, its Manufacturer, or the mark in its Series Description.
local function is_result(tags, origin)
   if origin['RequestOrigin'] == 'DicomProtocol' and origin['RemoteAet'] == node_aet() then
      return true
   end
   local description = string.upper(tags['SeriesDescription'] or '')
   return tags['Manufacturer'] == 'dicom-node' or string.find(description, 'RESEARCH USE ONLY', 1, true) ~= nil
end

local function state(film)
   -- Reads the whole table, because Orthanc logs an error for a single metadata that does not exist.
   return (ParseJson(RestApiGet('/instances/' .. film .. '/metadata?expand')) or {})[STATE]
end

local function send(film)
   local request = { Resources = { film }, Synchronous = false }
   local answer = ParseJson(RestApiPost('/modalities/' .. MODALITY .. '/store', DumpJson(request, true)))
   if answer == nil or answer['ID'] == nil then
      error('Orthanc did not take the job that sends ' .. film .. ' to ' .. MODALITY)
   end
   sending[film] = true
   job_films[answer['ID']] = film
end

local function send_waiting(study)
   for _, instance in ipairs(ParseJson(RestApiGet('/studies/' .. study .. '/instances')) or {}) do
      local film = instance['ID']
      if not sending[film] and not paused[film] and state(film) == 'waiting' then
         send(film)
      end
   end
end

-- Sends again the films that failed and whose pause is over. Newer releases call this every LuaHeartBeatPeriod.
local function repeat_due()
   local now = os.time()
   for film, entry in pairs(paused) do
      if not sending[film] and now >= entry.due then
         if state(film) == 'waiting' then
            send(film)
         else
            paused[film] = nil   -- deleted, or sent in another way
         end
      end
   end
end

function Initialize()
   local last = ParseJson(RestApiGet('/changes?last'))['Last']
   local since = math.max(0, last - CHANGES)
   local studies = {}
   repeat
      local page = ParseJson(RestApiGet(string.format('/changes?limit=500&since=%d', since)))
      for _, change in ipairs(page['Changes']) do
         if change['ResourceType'] == 'Study' then
            studies[change['ID']] = true
         end
      end
      since = page['Last']
   until page['Done']
   for study in pairs(studies) do
      send_waiting(study)
   end
end

function OnStoredInstance(instance, tags, metadata, origin)
   if FILMS[metadata['SopClassUid']] and not is_result(tags, origin) then
      RestApiPut('/instances/' .. instance .. '/metadata/' .. STATE, 'waiting')
   end
   repeat_due()
end

function OnStableStudy(study, tags, metadata)
   send_waiting(study)
   repeat_due()
end

function OnHeartBeat()
   repeat_due()
end

function OnJobSuccess(job)
   local film = job_films[job]
   if film then
      RestApiPut('/instances/' .. film .. '/metadata/' .. STATE, 'sent')
      job_films[job], sending[film], paused[film] = nil, nil, nil
   end
end

function OnJobFailure(job)
   local film = job_films[job]
   if film then
      local pause = paused[film] and math.min(2 * paused[film].pause, LAST_PAUSE) or FIRST_PAUSE
      paused[film] = { due = os.time() + pause, pause = pause }
      job_films[job], sending[film] = nil, nil
      print(string.format('%s did not take instance %s; it is tried again after %d s', MODALITY, film, pause))
   end
end

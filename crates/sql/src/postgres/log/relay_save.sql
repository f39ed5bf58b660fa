UPDATE relay SET epoch = $2, position = $3, reference = $4
WHERE partition = $1 AND epoch <= $2
